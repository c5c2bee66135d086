"""Values out of DICOM headers as real files have them: absent, empty, noisy or in nested groups."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from medseg_nca.io.dicom.files.elements import Elements, elements_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Groups = Mapping[int, Elements]

# Some devices write the unit after a number, and many fill with NUL instead of a space.
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?:mm)?\s*", re.ASCII)


class Attributes:
    """What a file says, or one of its frames: its functional groups first, then what they share.

    Attributes:
        bad: keywords of numbers that were there and could not be understood.
    """

    def __init__(
        self,
        source: Dataset | Elements,
        groups: Groups | None = None,
        *,
        beyond: Attributes | None = None,
    ) -> None:
        """Look at a data set, or at an item.

        Args:
            source: the file's.
            groups: elements that come before those of the data set.
            beyond: where to look for what is not in ``groups``, instead of the data set.
        """
        self._elements, self._groups, self._beyond = elements_of(source), groups or {}, beyond
        self._found: dict[str, tuple[str, ...]] = {}
        self._blocks: dict[tuple[int, str], int] | None = None
        self.bad: set[str] = set()

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return the values as text, without padding; () if there are none."""
        found = self._found.get(keyword)
        if found is None:
            found = self._found[keyword] = self._look_up(keyword)
        return found

    def _look_up(self, keyword: str) -> tuple[str, ...]:
        tag = tag_of(keyword)
        if tag in self._groups:
            return self._groups[tag].texts(tag)
        if self._beyond is not None:
            return self._beyond.texts(keyword)
        return self._elements.texts(tag)

    def text(self, keyword: str) -> str:
        """Return the values joined by backslashes; "" if there are none."""
        return "\\".join(self.texts(keyword))

    def numbers(self, keyword: str, count: int | None = None) -> tuple[float, ...] | None:
        """Return finite numbers, exactly ``count`` of them; None if absent, empty or no numbers."""
        texts = self.texts(keyword)
        if not any(texts):
            return None
        matches = [_NUMBER.fullmatch(text) for text in texts]
        values = tuple(float(match[1]) + 0.0 for match in matches if match)  # no -0.0
        fits = len(values) == len(texts) and (count is None or len(values) == count)
        if fits and all(math.isfinite(value) for value in values):
            return values
        self.bad.add(keyword)
        return None

    def number(self, *keywords: str) -> float | None:
        """Return the first number of the first keyword that has one."""
        for keyword in keywords:
            values = self.numbers(keyword)
            if values:
                return values[0]
        return None

    def private(self, group: int, creator: str, element: int) -> tuple[float, ...] | None:
        """Return the numbers of a private element; None if it is absent or holds none."""
        if self._blocks is None:
            self._blocks = _private_blocks(self._elements)
        block = self._blocks.get((group, creator))
        tag = None if block is None else group << 16 | block << 8 | element
        value = None if tag is None else self._elements.value(tag)
        if value is None:
            return None
        if isinstance(value, bytes):  # the VR was not told: text, or binary numbers
            return _text_numbers(value) or _binary_numbers(value)
        many = isinstance(value, Iterable) and not isinstance(value, str)
        return _finite(value if many else [value])


@cache
def tag_of(keyword: str) -> int:
    """The tag of a keyword of the dictionary.

    Raises:
        KeyError: if there is no such keyword.
    """
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return int(tag)


def _private_blocks(elements: Elements) -> dict[tuple[int, str], int]:
    """Which block each private creator has reserved (PS3.5 7.8.1)."""
    creators = (t for t in elements.tags() if t >> 16 & 1 and 0x10 <= t & 0xFFFF <= 0xFF)
    found: dict[tuple[int, str], int] = {}
    for tag in creators:
        found.setdefault((tag >> 16, "\\".join(elements.texts(tag))), tag & 0xFF)
    return found


def _finite(values: Iterable[Any]) -> tuple[float, ...] | None:
    matches = [_NUMBER.fullmatch(str(item).replace("\0", " ")) for item in values]
    numbers = tuple(float(match[1]) + 0.0 for match in matches if match)
    return numbers if numbers and all(math.isfinite(n) for n in numbers) else None


def _text_numbers(value: bytes) -> tuple[float, ...] | None:
    texts = value.decode("ascii", "replace").split("\\")
    return _finite(texts) if all(_NUMBER.fullmatch(t.replace("\0", " ")) for t in texts) else None


def _binary_numbers(value: bytes) -> tuple[float, ...] | None:
    import struct

    form, size = ("d", 8) if len(value) % 8 == 0 else ("f", 4)
    if not value or len(value) % size:
        return None
    numbers = struct.unpack(f"<{len(value) // size}{form}", value)
    return numbers if all(math.isfinite(n) for n in numbers) else None


def group_values(source: Dataset | Elements, depth: int = 3) -> dict[int, Elements]:
    """Find the elements of an item of the functional groups sequences, by tag.

    Each macro is a sequence of one item (PS3.3 C.7.6.16); legacy converted files keep what has no
    macro in sequences of the same form (PS3.3 C.8.35). Private macros are left out.

    Args:
        source: an item of the shared or per-frame functional groups sequence.
        depth: how deep sequences are followed.
    """
    item = elements_of(source)
    found: dict[int, Elements] = {}
    nested = []
    for tag in item.tags():
        inside = () if tag >> 16 & 1 else item.items(tag)
        if not inside:
            continue
        inner = inside[0]
        nested.append(inner)
        for inner_tag in inner.tags():
            if not inner_tag >> 16 & 1:
                found.setdefault(inner_tag, inner)
    if depth > 1:
        for inner in nested:
            found = group_values(inner, depth - 1) | found
    return found


def items(dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    """Return the items of a sequence of a parsed data set; () if it is absent or no sequence."""
    from pydicom.sequence import Sequence as Items

    value = elements_of(dataset).value(tag_of(keyword))
    return value if isinstance(value, Items) else ()
