"""From stored values to the values that a modality means (PS3.3 C.11.1 and C.7.6.16.2.9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# The order in which a type is looked for; the first that holds all values is taken.
_INTEGERS = tuple(np.dtype(name) for name in ("uint8", "int16", "uint16", "int32"))


@dataclass(frozen=True)
class Rescale:
    """``value = slope * stored + intercept``, or a look-up table."""

    slope: float = 1.0
    intercept: float = 0.0
    table: Dataset | None = None

    def apply(self, stored: NDArray[Any]) -> NDArray[Any]:
        """The values of one plane: integers if they are whole by nature, else float32."""
        if self.table is not None:
            from pydicom.pixels.processing import apply_modality_lut

            looked_up: NDArray[Any] = apply_modality_lut(stored, self.table)
            return looked_up
        if self.slope == 1 and self.intercept == 0:
            return stored
        if stored.dtype.kind != "f" and self.slope.is_integer() and self.intercept.is_integer():
            return stored.astype(np.int64) * int(self.slope) + int(self.intercept)
        return (stored.astype(np.float64) * self.slope + self.intercept).astype(np.float32)


def find_rescale(dataset: Dataset, frame: int) -> Rescale:
    """How the stored values of a frame are to be understood.

    The frame's own functional group goes before the shared one, and that before the data set.

    Raises:
        ValueError: if slope or intercept is no finite number.
    """
    for keyword, index in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        groups = list(dataset.get(keyword) or [])[index : index + 1]
        for group in groups:
            if group.get("PixelValueTransformationSequence"):
                return _linear(group.PixelValueTransformationSequence[0])
    if dataset.get("ModalityLUTSequence"):
        return Rescale(table=dataset)
    return _linear(dataset)


def inverted(dataset: Dataset, stored: NDArray[Any]) -> NDArray[Any]:
    """Turn MONOCHROME1 (low is bright) so that high is bright.

    A stored value v becomes ``low + high - v``, where low and high are the least and the greatest
    value that BitsStored bits of this PixelRepresentation can hold; so all planes of a series are
    turned alike, and slope and intercept are applied afterwards. Values with a declared unit
    (RescaleType HU, Units of PET) are a quantity however they are shown, and stay.
    """
    if dataset.get("PhotometricInterpretation") != "MONOCHROME1" or stored.dtype.kind == "f":
        return stored
    if dataset.get("RescaleType") == "HU" or dataset.get("Units"):
        return stored
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    total = -1 if stored.dtype.kind == "i" else 2**bits - 1
    return (total - stored.astype(np.int64)).astype(stored.dtype)


def narrowest(array: NDArray[Any], before: np.dtype[Any] | None = None) -> np.dtype[Any]:
    """The type for these values and for those of type ``before``.

    The first of uint8, int16, uint16, int32 that holds them all exactly; float32 for fractions,
    and for whole numbers beyond 32 bits.
    """
    single = np.dtype(np.float32)
    if single in (before, array.dtype) or array.dtype.kind == "f":
        return single
    low, high = int(array.min()), int(array.max())
    for dtype in _INTEGERS:
        info = np.iinfo(dtype)
        fits = info.min <= low and high <= info.max
        if fits and (before is None or np.can_cast(before, dtype)):
            return dtype
    return single


def _linear(item: Dataset) -> Rescale:
    slope, intercept = (
        default if (value := item.get(keyword)) is None else float(value)
        for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if not np.isfinite([slope, intercept]).all():
        raise ValueError("RescaleSlope or RescaleIntercept is not finite")
    return Rescale(slope, intercept)
