"""The plan of a data set: where its elements lie, before any value is read (PS3.5 section 7).

pydicom takes memory for whatever a file announces: a length of 4 GB, a million empty items (each
becomes an object of some kilobytes), sequences nested without end. This walk over tags and lengths
takes none; it says which bytes pydicom may parse, and where the pixels are.

A quick survey leaves out what its caller may never ask for: sequences of defined length are not
looked into (:meth:`Walker.items` does that later, with the same limits).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from medseg_nca.io.dicom.files.data import OpenDataSet
from medseg_nca.io.dicom.files.places import Element, FoundElement, HeaderLayout, Item, Pixels
from medseg_nca.io.dicom.problems import damaged, too_large, truncated

PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
# An enhanced series of 12,000 frames has about 150,000 items and 900,000 elements.
MAX_ITEMS = 500_000
MAX_ELEMENTS = 2_000_000
MAX_DEPTH = 32
# Binary values that are longer than this are left out of a header: overlays, waveforms, documents,
# private data.
BULK = 256 * 1024
MAX_HEADER = 256 * 2**20

_WINDOW = 16 * 1024
# Values up to this length are kept with their element by a quick survey.
_SHORT_VALUE = 512
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_BULKY = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN", None))
_LONG_VR = (_BULKY - {None}) | {b"SQ", b"SV", b"UC", b"UR", b"UT", b"UV"}


class _MalformedError(Exception):
    """A nested value that is no data set; ``cut`` if the file ends within it."""

    def __init__(self, text: str, *, cut: bool = False) -> None:
        super().__init__(text)
        self.cut = cut


class Walker:
    """Reads tags and lengths of one data set.

    Args:
        source: the bytes.
        path: for messages.
        implicit: whether the transfer syntax has no VRs; files that lie about it are understood.
        little: byte order.
        bulk: longer values of bytes are left out, all but the pixels.
    """

    def __init__(
        self, source: OpenDataSet, path: Path, *, implicit: bool, little: bool, bulk: int = BULK
    ) -> None:
        self.source, self.path, self.little, self._bulk = source, path, little, bulk
        order = "<" if little else ">"
        self._tag = struct.Struct(f"{order}HH")
        self._explicit_header = struct.Struct(f"{order}HH2sHL")  # with the length of long VRs
        self._implicit_header = struct.Struct(f"{order}HHL")
        self._implicit = implicit
        self._items = self._elements = 0
        self._window, self._window_start = b"", 0

    def survey(self) -> HeaderLayout:
        """Walk over the top level, and into every sequence, up to the pixels.

        Raises:
            DicomError: ``truncated``, ``damaged`` or ``too-large``.
        """
        return self._survey(lambda _: True, {}, deep=True)

    def quick_survey(
        self, wanted: Callable[[int], bool], *, last: int = 0xFFFFFFFF
    ) -> HeaderLayout:
        """Walk over the top level, and into sequences only where their end has to be looked for.

        Args:
            wanted: whether the bytes of the element with a tag are to be among the ranges; such
                sequences are looked into.
            last: the walk ends at the first element with a higher tag.

        Raises:
            DicomError: as :meth:`survey`.
        """
        return self._survey(wanted, {}, deep=False, end_tag=last)

    def _survey(
        self,
        wanted: Callable[[int], bool],
        elements: dict[int, FoundElement],
        *,
        deep: bool,
        end_tag: int = 0xFFFFFFFF,
    ) -> HeaderLayout:
        position = self.source.start
        implicit = self._really_implicit(position, self._implicit)
        kept: list[tuple[int, int]] = []
        size, last = 0, None
        while (element := self._element(position, implicit)) is not None:
            last = element
            if element.tag > end_tag:
                break
            if element.tag in PIXELS:
                pixels = self._pixels(element)
                return HeaderLayout(tuple(kept), implicit, pixels, element.name, elements)
            is_wanted = wanted(element.tag)
            end, keep = self._top(element, implicit, deep=is_wanted)
            if keep:
                size += end - position
                if size > MAX_HEADER:
                    raise too_large(self.path, f"its header is longer than {MAX_HEADER:,} bytes.")
                if not deep:
                    elements[element.tag] = FoundElement(element, end, self._short_value(element))
                if is_wanted:
                    _extend(kept, (position, end))
            position = end
        reached = last.name if last else "none"
        return HeaderLayout(tuple(kept), implicit, None, reached, elements)

    def items(self, found: FoundElement, implicit: bool) -> list[Item]:
        """The items of a sequence; what is no sequence, or a malformed one, has none.

        Raises:
            DicomError: ``damaged`` or ``too-large``.
        """
        if found.items is not None:
            return found.items
        element = found.element
        if not self._is_sequence(element):
            return []
        self._items = self._elements = 0
        inside: list[Item] = []
        end = None if element.length is None else found.end
        try:
            self._items_end(element, end, implicit, 1, inside)
        except _MalformedError:
            return []
        return inside

    def _top(self, element: Element, implicit: bool, *, deep: bool) -> tuple[int, bool]:
        """The end of an element of the top level, and whether it belongs to the header."""
        if element.length is None:
            try:
                return self._items_end(element, None, implicit, 1), True
            except _MalformedError as error:
                refuse = truncated if error.cut else damaged
                raise refuse(self.path, f"{element.name} {error}.") from error
        end = element.value + element.length
        if not self.source.holds(end):
            left = max(self.source.size - element.value, 0)
            raise truncated(
                self.path,
                f"{element.name} has {element.length:,} bytes, the file holds {left:,} of them.",
            )
        bulky = element.length > self._bulk and element.vr in _BULKY and element.tag >> 16 != 0x7FE0
        # Without VRs a long sequence looks like bulk.
        if bulky and not self._is_sequence(element):
            return end, False
        return end, not deep or self._sound(element, end, implicit, 1)

    def _short_value(self, element: Element) -> bytes | None:
        """A short value, as long as it lies in memory."""
        length, begin = element.length, element.value - self._window_start
        if length is None or length > _SHORT_VALUE or not 0 <= begin <= len(self._window) - length:
            return None
        return self._window[begin : begin + length]

    def _sound(
        self,
        element: Element,
        end: int,
        implicit: bool,
        depth: int,
        inside: list[Item] | None = None,
    ) -> bool:
        """Whether a value of defined length, if it is a sequence, is a well-formed one."""
        if (element.length or 0) < 8 or not self._is_sequence(element):
            return True
        try:
            self._items_end(element, end, implicit, depth, inside)
        except _MalformedError:
            return False
        return True

    def _is_sequence(self, element: Element) -> bool:
        if element.vr == b"SQ":
            return True
        if element.vr not in (b"UN", None):
            return False
        first = self._peek(element.value, 4)
        if len(first) == 4 and self._number(first) == _ITEM:
            return True
        from pydicom.datadict import dictionary_has_tag, dictionary_VR

        return dictionary_has_tag(element.tag) and bool(dictionary_VR(element.tag) == "SQ")

    def _items_end(
        self,
        element: Element,
        end: int | None,
        implicit: bool,
        depth: int,
        inside: list[Item] | None = None,
    ) -> int:
        """Walk over the items of a sequence, and put them into ``inside``; the offset behind it."""
        if depth > MAX_DEPTH:
            raise damaged(self.path, f"{element.name} is nested more than {MAX_DEPTH} deep.")
        position = element.value
        while end is None or position < end:
            tag, length = self._item(position)
            position += 8
            if tag == _SEQUENCE_END and end is None:
                return position
            if tag != _ITEM:
                raise _MalformedError("has something else where an item should be")
            position = self._item_end(position, length, implicit, depth, inside)
        if position != end:
            raise _MalformedError("has items that end beyond it")
        return position

    def _item_end(
        self, position: int, length: int, implicit: bool, depth: int, inside: list[Item] | None
    ) -> int:
        """Walk over the elements of one item; the offset behind it."""
        self._items += 1
        if self._items > MAX_ITEMS:
            raise too_large(self.path, f"it has more than {MAX_ITEMS:,} sequence items.")
        end = None if length == _UNDEFINED else position + length
        if end is not None and not self.source.holds(end):
            raise _MalformedError("has an item that is longer than the file", cut=True)
        if not implicit:
            implicit = self._really_implicit(position, implicit)
        elements: dict[int, FoundElement] | None = None
        if inside is not None:
            elements = {}
            inside.append(Item(elements, implicit))
        while end is None or position < end:
            element = self._element(position, implicit)
            if element is None:
                raise _MalformedError("has an item without an end", cut=True)
            if element.tag == _ITEM_END:
                return position + 8
            position = self._nested_end(element, end, implicit, depth, elements)
        return position

    def _nested_end(
        self,
        element: Element,
        limit: int | None,
        implicit: bool,
        depth: int,
        elements: dict[int, FoundElement] | None,
    ) -> int:
        """Walk over an element of an item, which is put into ``elements``; the offset behind it."""
        inside: list[Item] | None = None if elements is None else []
        if element.length is None:
            end = self._items_end(element, None, implicit, depth + 1, inside)
        else:
            end = element.value + element.length
            if limit is not None and end > limit:
                raise _MalformedError("has an element that is longer than its item")
            if not self.source.holds(end):
                raise _MalformedError("has an element that is longer than the file", cut=True)
            if not self._sound(element, end, implicit, depth + 1, inside):
                raise _MalformedError("has a malformed sequence in it")
        if elements is not None:
            elements[element.tag] = FoundElement(element, end, self._short_value(element), inside)
        return end

    def _peek(self, position: int, count: int) -> bytes:
        """A few bytes, fewer at the end; from memory where the last ones came from."""
        begin = position - self._window_start
        if begin < 0 or begin + count > len(self._window):
            self._window = self.source.peek(position, _WINDOW)
            self._window_start, begin = position, 0
        return self._window[begin : begin + count]

    def _item(self, position: int) -> tuple[int, int]:
        header = self._peek(position, 8)
        if len(header) < 8:
            raise _MalformedError("has no end", cut=True)
        group, number, length = self._implicit_header.unpack(header)
        return group << 16 | number, length

    def _element(self, position: int, implicit: bool) -> Element | None:
        """The element at a position; None at the end of the data."""
        window, begin = self._window, position - self._window_start
        if begin < 0 or begin + 12 > len(window):
            window = self._window = self.source.peek(position, _WINDOW)
            self._window_start, begin = position, 0
            if len(window) < 12:  # the last element may be empty
                return self._last_element(window, position, implicit)
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise too_large(self.path, f"it has more than {MAX_ELEMENTS:,} elements.")
        vr: bytes | None = None
        value = position + 8
        if implicit:
            group, number, length = self._implicit_header.unpack_from(window, begin)
        else:
            group, number, vr, length, long = self._explicit_header.unpack_from(window, begin)
            if vr in _LONG_VR:
                length, value = long, position + 12
            elif not b"AA" <= vr <= b"ZZ":  # an implicit element within explicit ones
                vr = None
                group, number, length = self._implicit_header.unpack_from(window, begin)
        undefined = length == _UNDEFINED
        return Element(group << 16 | number, vr, position, value, None if undefined else length)

    def _last_element(self, window: bytes, position: int, implicit: bool) -> Element | None:
        """An element in the last bytes of the data; None if it is not complete."""
        if len(window) < 8 or (not implicit and window[4:6] in _LONG_VR):
            return None
        self._window = window.ljust(12, b"\0")
        element = self._element(position, implicit)
        self._window = window
        return element

    def _really_implicit(self, position: int, implicit: bool) -> bool:
        """Some files have or lack VRs against their transfer syntax; the first element tells."""
        first = self._peek(position, 6)
        return implicit if len(first) < 6 else not _is_letters(first[4:])

    def _number(self, tag: bytes) -> int:
        group, number = self._tag.unpack(tag)
        return int(group) << 16 | int(number)

    def _pixels(self, element: Element) -> Pixels:
        if element.length is not None:
            return Pixels(element, element.value + element.length)
        fragments = tuple(self._fragments(element))
        end = fragments[-1][0] + fragments[-1][1] if fragments else element.value
        return Pixels(element, end, fragments)

    def _fragments(self, element: Element) -> Iterator[tuple[int, int]]:
        position = element.value
        while True:
            header = self._peek(position, 8)
            if len(header) < 8:
                raise truncated(self.path, f"{element.name} has no end.")
            group, number, length = self._implicit_header.unpack(header)
            tag = group << 16 | number
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM or length == _UNDEFINED:
                raise damaged(self.path, f"{element.name} has something else than packed frames.")
            self._items += 1
            if self._items > MAX_ITEMS:
                raise too_large(self.path, f"it has more than {MAX_ITEMS:,} packed fragments.")
            position += 8
            if not self.source.holds(position + length):
                left = self.source.size - position
                raise truncated(
                    self.path,
                    f"a frame of {element.name} has {length:,} bytes, the file holds {left:,} of "
                    "them.",
                )
            yield position, length
            position += length


def _is_letters(vr: bytes) -> bool:
    return all(65 <= byte <= 90 for byte in vr)


def _extend(ranges: list[tuple[int, int]], new: tuple[int, int]) -> None:
    """Append a range, joined to the last one if it follows on it."""
    if ranges and ranges[-1][1] == new[0]:
        ranges[-1] = (ranges[-1][0], new[1])
    else:
        ranges.append(new)
