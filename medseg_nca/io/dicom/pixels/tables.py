"""Look-up tables: the modality's, and palettes of colours (PS3.3 C.11.1 and C.7.6.3.1.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_COLOURS = ("Red", "Green", "Blue")


class TableError(ValueError):
    """What a header says about values makes no sense; the message has no full stop."""


@dataclass(frozen=True)
class ValueTable:
    """What stored values stand for, one by one.

    Attributes:
        entries: the values.
        first: the stored value of the first entry; lower ones have the first entry, too, and those
            behind the last entry the last.
        bits: of an entry.
    """

    entries: NDArray[np.int64]
    first: int
    bits: int

    @classmethod
    def read(cls, item: Dataset, prefix: str, *, signed: bool, little: bool) -> ValueTable:
        """The table whose descriptor and data have keywords that start with ``prefix``.

        Args:
            item: holds both.
            prefix: ``LUT``, or ``RedPaletteColorLookupTable``.
            signed: whether the stored values are.
            little: byte order.

        Raises:
            TableError: if something is missing or does not fit together.
        """
        count, first, bits = _descriptor(item, f"{prefix}Descriptor", signed=signed, little=little)
        data = item.get(f"{prefix}Data")
        if isinstance(data, bytes):
            if len(data) < count:
                raise TableError(f"{prefix}Data has {len(data)} bytes for {count} entries")
            packed = len(data) < 2 * count  # two entries of 8 bits in a word
            word = "<u2" if little else ">u2"
            entries = np.frombuffer(data, "u1" if packed else word, count)
        else:
            entries = np.atleast_1d(np.asarray([] if data is None else data))[:count]
        if len(entries) < count:
            raise TableError(f"{prefix}Data has {len(entries)} of {count} entries")
        return cls(entries.astype(np.int64), first, bits)

    @property
    def highest(self) -> int:
        """The greatest value that an entry can hold."""
        return (1 << self.bits) - 1

    def apply(self, stored: NDArray[Any]) -> NDArray[np.int64]:
        """The values of stored ones."""
        places = stored.astype(np.int64) - self.first
        return np.asarray(self.entries[places.clip(0, len(self.entries) - 1)])


def modality_table(dataset: Dataset, *, signed: bool) -> tuple[ValueTable, str]:
    """The modality LUT of a data set, and its ModalityLUTType in capitals.

    Raises:
        TableError: if there are several, or its parts do not fit together.
    """
    items = list(dataset.ModalityLUTSequence)
    if len(items) != 1:
        raise TableError(f"ModalityLUTSequence has {len(items)} items; one is allowed")
    table = ValueTable.read(items[0], "LUT", signed=signed, little=_little(dataset))
    return table, str(items[0].get("ModalityLUTType") or "").upper()


def in_colour(dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.uint8]:
    """The colours of a palette, ``(rows, columns, 3)``.

    Palettes of 16 bits whose entries use the lower 8 only, as some devices write them, are taken as
    those of 8 bits.

    Raises:
        TableError: if the palette is missing or incomplete.
    """
    if "SegmentedRedPaletteColorLookupTableData" in dataset:
        return _in_segmented_colour(dataset, stored)
    signed = stored.dtype.kind == "i"
    tables = [
        ValueTable.read(
            dataset, f"{colour}PaletteColorLookupTable", signed=signed, little=_little(dataset)
        )
        for colour in _COLOURS
    ]
    high = any((table.entries >> 8).any() for table in tables)
    colours = np.stack([table.apply(stored) for table in tables], axis=-1)
    return (colours >> 8 if high else colours).astype(np.uint8)


def _in_segmented_colour(dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut

    try:
        colours: NDArray[Any] = apply_color_lut(stored, dataset)[..., :3]
    except (ValueError, AttributeError, TypeError, IndexError) as error:
        raise TableError(f"its palette cannot be used ({type(error).__name__})") from error
    return (colours >> 8 if colours.dtype.itemsize > 1 else colours).astype(np.uint8)


def _descriptor(item: Dataset, keyword: str, *, signed: bool, little: bool) -> tuple[int, int, int]:
    """Number of entries, the first value that is mapped, bits of an entry."""
    value = item.get(keyword)
    if isinstance(value, bytes):  # "US or SS", in implicit encoding
        value = np.frombuffer(value, "<u2" if little else ">u2", len(value) // 2).tolist()
    numbers = [int(part) & 0xFFFF for part in value or ()]
    if len(numbers) != 3 or not 1 <= numbers[2] <= 16:
        raise TableError(f"{keyword} is missing or cannot be understood")
    first = numbers[1] - 2**16 if signed and numbers[1] >> 15 else numbers[1]
    return numbers[0] or 2**16, first, numbers[2]


def _little(dataset: Dataset) -> bool:
    return dataset.original_encoding[1] is not False
