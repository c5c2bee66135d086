"""Where the elements of a data set lie: what a walk over it finds (:mod:`layout`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Element(NamedTuple):
    """Tag and place of one element; offsets are those of its :class:`.data.OpenDataSet`.

    ``vr`` is None in implicit encoding; ``length`` is None if it is undefined.
    """

    tag: int
    vr: bytes | None
    start: int
    value: int
    length: int | None

    @property
    def name(self) -> str:
        """Keyword and tag, or the tag alone if it is private."""
        from pydicom.datadict import keyword_for_tag

        number = f"({self.tag >> 16:04X},{self.tag & 0xFFFF:04X})"
        return f"{keyword_for_tag(self.tag)} {number}".strip()


@dataclass(frozen=True)
class Pixels:
    """The pixel data: its element, and the packed fragments (offset, length) if encapsulated.

    The first fragment is the basic offset table (PS3.5 A.4); ``end`` is where the value ends.
    """

    element: Element
    end: int
    fragments: tuple[tuple[int, int], ...] | None = None


class Item(NamedTuple):
    """The elements of an item of a sequence by tag, and whether they have no VRs."""

    elements: dict[int, FoundElement]
    implicit: bool


class FoundElement(NamedTuple):
    """An element with what is behind its tag and length.

    ``end`` is where it ends; ``short`` is its value if that is short, else None; ``items`` are
    those of a sequence within a sequence, else None.
    """

    element: Element
    end: int
    short: bytes | None
    items: list[Item] | None = None


@dataclass(frozen=True)
class HeaderLayout:
    """What a header consists of.

    Attributes:
        ranges: bytes that pydicom may parse, in order; what is bulky or malformed is left out.
        implicit: how the elements are really encoded, whatever the file meta says.
        pixels: None if the data set ends without pixel data.
        reached: the last tag that was read.
        elements: of the top level, by tag; only of a quick survey.
    """

    ranges: tuple[tuple[int, int], ...]
    implicit: bool
    pixels: Pixels | None
    reached: str
    elements: Mapping[int, FoundElement] = field(default_factory=dict)
