"""Elements that are still bytes of a file; a value is understood when it is asked for.

A scan asks for some 90 of the hundreds of elements of a header, and finds most values again in the
next file: what a value means is remembered by its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from medseg_nca.io.dicom.files.elements import ASCII, Elements, as_texts, stripped
from medseg_nca.io.dicom.files.layout import Walker
from medseg_nca.io.dicom.files.places import FoundElement
from medseg_nca.io.dicom.files.settle import NUMBERS, TELLING, are_numbers

_CHARACTER_SET = 0x00080005
# Texts of several values; without an escape or a high bit they are ASCII in every character set.
_TEXTS = frozenset(("LO", "SH", "UC"))
_BINARY = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d"}
_NAN = ("nan",)


class RawElements:
    """The elements of a data set or of an item, as a quick survey found them.

    Args:
        walker: knows the file, which is open as long as elements are asked for.
        elements: by tag.
        implicit: whether they have no VRs.
        character_set: SpecificCharacterSet of what the item lies in.
    """

    __slots__ = ("_elements", "_implicit", "_walker", "character_set")

    def __init__(
        self,
        walker: Walker,
        elements: Mapping[int, FoundElement],
        *,
        implicit: bool,
        character_set: tuple[str, ...] = (),
    ) -> None:
        self._walker, self._elements, self._implicit = walker, elements, implicit
        self.character_set = character_set
        if _CHARACTER_SET in elements:
            self.character_set = self.texts(_CHARACTER_SET)

    def __contains__(self, tag: int) -> bool:
        """Whether the element is there, with or without a value."""
        return tag in self._elements

    def tags(self) -> Iterator[int]:
        """The tags of all elements."""
        return iter(self._elements)

    def texts(self, tag: int) -> tuple[str, ...]:
        """The values as text, without padding; () if there are none."""
        found = self._elements.get(tag)
        if found is None:
            return ()
        vr, data = self._vr(found), self._bytes(found)
        read = _texts if found.short is not None else _texts.__wrapped__
        texts = read(vr, data, tag, self._walker.little, self.character_set)
        return _NAN if not texts and data and tag in TELLING else texts

    def value(self, tag: int) -> Any:
        """The value as pydicom has it; None if there is none, or it cannot be understood."""
        found = self._elements.get(tag)
        if found is None:
            return None
        vr, data = self._vr(found), self._bytes(found)
        read = _value if found.short is not None else _value.__wrapped__
        return read(vr, data, tag, self._walker.little, self.character_set)

    def items(self, tag: int) -> Sequence[Elements]:
        """The items of a sequence; () if it is absent, malformed or no sequence."""
        found = self._elements.get(tag)
        if found is None or self._vr(found) != "SQ":
            return ()
        return [
            RawElements(
                self._walker,
                item.elements,
                implicit=item.implicit,
                character_set=self.character_set,
            )
            for item in self._walker.items(found, self._implicit)
        ]

    def _bytes(self, found: FoundElement) -> bytes:
        if found.short is not None:
            return found.short
        element = found.element
        return self._walker.source.read(element.value, found.end - element.value)

    def _vr(self, found: FoundElement) -> str:
        tag, vr = found.element.tag, found.element.vr
        if vr is not None and vr != b"UN":
            return _decoded(vr)
        creator = ""
        if tag >> 16 & 1 and tag & 0xFF00:
            creator = "".join(self.texts(tag & 0xFFFF0000 | tag >> 8 & 0xFF))
        return _known_vr(tag, creator)


@lru_cache
def _decoded(vr: bytes) -> str:
    return vr.decode("ascii", "replace")


@lru_cache(4096)
def _known_vr(tag: int, creator: str) -> str:
    """The VR of an element that does not say it; UN where it is unknown."""
    from pydicom.datadict import dictionary_VR, private_dictionary_VR

    try:
        if not tag >> 16 & 1:
            return str(dictionary_VR(tag))
        if 0x10 <= tag & 0xFFFF <= 0xFF:  # reserves a block (PS3.5 7.8.1)
            return "LO"
        return str(private_dictionary_VR(tag, creator)) if creator else "UN"
    except KeyError:
        return "UN"


@lru_cache(4096)
def _texts(
    vr: str, data: bytes, tag: int, little: bool, character_set: tuple[str, ...]
) -> tuple[str, ...]:
    plain = vr in ASCII or (vr in _TEXTS and data.isascii() and b"\x1b" not in data)
    if plain:
        return stripped(data.decode("ascii", "replace").split("\\"))
    return as_texts(_value.__wrapped__(vr, data, tag, little, character_set))


@lru_cache(4096)
def _value(vr: str, data: bytes, tag: int, little: bool, character_set: tuple[str, ...]) -> Any:
    """What pydicom makes of a value; None for a sequence and for what cannot be converted."""
    if vr == "SQ":
        return None
    if vr in _BINARY:
        return _binary(_BINARY[vr], data, little=little)
    from pydicom.charset import convert_encodings
    from pydicom.dataelem import RawDataElement, convert_raw_data_element
    from pydicom.tag import BaseTag

    raw = RawDataElement(BaseTag(tag), vr, len(data), data, 0, False, little)
    try:
        encodings = convert_encodings(list(character_set) or None)
        value = convert_raw_data_element(raw, encoding=encodings).value
        if vr == "PN":
            str(value)  # names are decoded when they are first shown
    except Exception:  # its converters raise whatever int(), float() or struct raise on junk
        return None
    return value if vr not in NUMBERS or are_numbers(value) else None


def _binary(form: str, data: bytes, *, little: bool) -> Any:
    order = "<" if little else ">"
    size = struct.calcsize(f"{order}{form}")
    if not data or len(data) % size:
        return None
    values = struct.unpack(f"{order}{len(data) // size}{form}", data)
    return values[0] if len(values) == 1 else list(values)
