"""The stored value within the bits of a sample (PS3.5 8.1.1), whatever has decoded it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.dicom.problems import refusal

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CONTRADICTION = "Have it exported again, or correct BitsStored and HighBit in its header."


@dataclass(frozen=True)
class StoredBits:
    """Which bits of a sample hold its value.

    Attributes:
        count: BitsStored.
        low: how many bits lie below them: HighBit + 1 - BitsStored. 0 in every file of today;
            others were legal until 2014.
        signed: PixelRepresentation.
        padding: PixelPaddingValue; None if there is none.
    """

    count: int
    low: int
    signed: bool
    padding: int | None = None

    @classmethod
    def of(cls, path: Path, dataset: Dataset) -> StoredBits:
        """As the header says; ``path`` is for messages.

        Raises:
            DicomError: ``bad-value``, see :func:`wrong_bits`.
        """
        names = ("BitsAllocated", "BitsStored", "HighBit")
        allocated, stored, high = (dataset.get(name) for name in names)
        wrong = wrong_bits(allocated, stored, high)
        if wrong:
            raise refusal("bad-value", path, wrong, hint=_CONTRADICTION)
        count = int(stored or allocated)
        low = 0 if high is None else int(high) + 1 - count
        padding = dataset.get("PixelPaddingValue")
        if isinstance(padding, bytes):  # "US or SS", in implicit encoding
            padding = int.from_bytes(padding[:2], "little")
        signed = bool(dataset.get("PixelRepresentation") or 0)
        return cls(count, low, signed, padding if isinstance(padding, int) else None)

    def values(
        self, path: Path, samples: NDArray[Any], precision: int | None = None
    ) -> NDArray[Any]:
        """The values that the samples hold: other bits are ignored, the sign is extended.

        Args:
            path: for messages.
            samples: as decoded, integers of any type; bits beyond those stored may hold anything.
            precision: bits of a sample within a packed frame, which has the last say (PS3.5 8.2);
                None for native pixels and RLE, which keep all bits.

        Raises:
            DicomError: ``bad-value`` if HighBit contradicts the pixels.
        """
        width = 8 * samples.dtype.itemsize
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
        raw = samples.view(f"u{samples.dtype.itemsize}")
        low, count = self._within(path, _width(raw, precision))
        if low:
            self._check_shift(path, raw)
        elif count < width:
            self._check_padding(path, raw)
        kind = "i" if self.signed else "u"
        left = width - count - low
        if not (left or low):
            return raw.view(f"{kind}{samples.dtype.itemsize}")
        shifted = np.left_shift(raw, left).view(f"{kind}{samples.dtype.itemsize}")
        return np.asarray(np.right_shift(shifted, left + low))

    def _within(self, path: Path, width: int) -> tuple[int, int]:
        """How many bits lie below the value, and how many hold it, in so many bits."""
        if self.low and width == self.count:  # the encoder took the value out of its bits
            return 0, self.count
        if self.low and width < self.low + self.count:
            raise refusal(
                "bad-value",
                path,
                f"its packed frames have {width} bits, BitsStored is {self.count} and HighBit "
                f"{self.low + self.count - 1}: it cannot be told which bits are the value.",
                hint=_CONTRADICTION,
            )
        return self.low, min(self.count, width)

    def _check_shift(self, path: Path, raw: NDArray[Any]) -> None:
        """A HighBit of mistake is found where pixels use the bits that it excludes, and no other.

        A value of ``count`` bits from bit ``low`` on uses bits above ``count``, and those below
        ``low`` at most for overlays. Values from bit 0 on do the reverse.
        """
        used = int(np.bitwise_or.reduce(raw, axis=None))
        if used >> self.count == 0 and used & ((1 << self.low) - 1):
            raise refusal(
                "bad-value",
                path,
                f"HighBit is {self.low + self.count - 1} and BitsStored {self.count}, but the "
                f"pixels lie in the lowest {self.count} bits.",
                hint=_CONTRADICTION,
            )

    def _check_padding(self, path: Path, raw: NDArray[Any]) -> None:
        """Padding that needs more bits than are stored would look like tissue in those bits."""
        if self.padding is None or self.signed or 0 <= self.padding < 1 << self.count:
            return
        word = self.padding & ((1 << 8 * raw.dtype.itemsize) - 1)
        if (raw == word).any():
            raise refusal(
                "bad-value",
                path,
                f"PixelPaddingValue {self.padding} needs more than the {self.count} bits stored, "
                "and pixels have it.",
                hint=_CONTRADICTION,
            )


def wrong_bits(allocated: float | None, stored: float | None, high: float | None) -> str:
    """What contradicts itself in BitsAllocated, BitsStored and HighBit; "" if nothing does.

    BitsStored is BitsAllocated where it is missing, HighBit the highest of the lowest bits.
    """
    if allocated is None:
        return ""
    if stored is None:
        stored = allocated
    if not 1 <= stored <= allocated:
        return f"BitsStored is {stored:g} of {allocated:g} bits."
    if high is not None and not stored - 1 <= high < allocated:
        return f"HighBit is {high:g}, for {stored:g} stored of {allocated:g} bits."
    return ""


def _width(raw: NDArray[Any], precision: int | None) -> int:
    """The bits that samples have: as their packed frame says, unless they have more.

    Some encoders of lossless JPEG say 12 for what has 16.
    """
    width = 8 * raw.dtype.itemsize
    if precision is None or precision >= width:
        return width
    signed = raw.view(f"i{raw.dtype.itemsize}")
    fits = int(signed.min()) >= -(1 << (precision - 1)) and int(signed.max()) < 1 << precision
    return precision if fits else width
