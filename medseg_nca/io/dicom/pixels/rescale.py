"""From stored values to the values that a modality means (PS3.3 C.11.1 and C.7.6.16.2.9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.dicom.files.attributes import Attributes
from medseg_nca.io.dicom.files.classes import MEASURED
from medseg_nca.io.dicom.pixels.tables import TableError, modality_table
from medseg_nca.io.integers import holding

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

RESCALE = ("RescaleSlope", "RescaleIntercept")
# RescaleType and ModalityLUTType that name no unit: unspecified (PS3.3 C.11.1.1.2), and Philips'.
NO_UNIT = {"", "US", "NORMALIZED"}


@dataclass(frozen=True)
class Rescale:
    """``value = slope * stored + intercept``; ``unit`` is RescaleType."""

    slope: float = 1.0
    intercept: float = 0.0
    unit: str = ""

    def apply(self, stored: NDArray[Any]) -> NDArray[Any]:
        """The values of one plane: integers if they are whole by nature, else float32."""
        if self.slope == 1 and self.intercept == 0:
            return stored
        if stored.dtype.kind != "f" and self.slope.is_integer() and self.intercept.is_integer():
            slope, intercept = int(self.slope), int(self.intercept)
            ends = [int(end) * slope + intercept for end in (stored.min(), stored.max())]
            dtype = _holding(min(ends), max(ends))
            if dtype is not None:
                return _whole(stored, slope, intercept, dtype)
        return (stored.astype(np.float64) * self.slope + self.intercept).astype(np.float32)


def _holding(low: int, high: int) -> np.dtype[Any] | None:
    """The smallest signed type for these values; None if there is none."""
    for kind in (np.int16, np.int32, np.int64):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.dtype(kind)
    return None


def _whole(stored: NDArray[Any], slope: int, intercept: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """``slope * stored + intercept`` in a type that holds all results.

    Integers wrap around: what is beyond the type on the way comes back with the result.
    """
    bits = 8 * dtype.itemsize
    values = stored.astype(dtype)
    for operation, number in ((np.multiply, slope), (np.add, intercept)):
        wrapped = (number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)
        operation(values, dtype.type(wrapped), out=values)
    return values


def meant(dataset: Dataset, frame: int, stored: NDArray[Any]) -> NDArray[Any]:
    """The values that the stored ones of a grey frame stand for.

    The frame's own functional group goes before the shared one, that before a modality LUT, and
    that before slope and intercept of the data set.

    Raises:
        TableError: if slope, intercept or table make no sense.
    """
    item = _transformation(dataset, frame)
    if item is None and dataset.get("ModalityLUTSequence"):
        table, unit = modality_table(dataset, signed=stored.dtype.kind == "i")
        values = table.apply(stored)
        # Turned is what is shown: the values behind the table (PS3.3 C.7.6.3.1.2).
        return table.highest - values if is_turned(dataset, unit, stored) else values
    rescale = find_rescale(dataset if item is None else item)
    if is_turned(dataset, rescale.unit, stored):
        stored = _turned(dataset, stored)
    return rescale.apply(stored)


def find_rescale(item: Dataset) -> Rescale:
    """Slope and intercept of a data set, or of an item of PixelValueTransformationSequence.

    One that is missing or empty is 1 or 0.

    Raises:
        TableError: if one is there and is no single number, or the slope is 0.
    """
    attributes = Attributes(item)
    wrong = wrong_rescale(attributes)
    if wrong:
        raise TableError(wrong)
    slope, intercept = (attributes.number(name) for name in RESCALE)
    return Rescale(
        1.0 if slope is None else slope,
        0.0 if intercept is None else intercept,
        attributes.text("RescaleType").upper(),
    )


def wrong_rescale(attributes: Attributes) -> str:
    """What makes no sense in slope and intercept; "" if nothing does.

    A slope of 0 makes all voxels equal; readers that take 1 instead guess.
    """
    values = [attributes.numbers(name, 1) for name in RESCALE]
    bad = [name for name in RESCALE if name in attributes.bad]
    if bad:
        return f"{' and '.join(bad)} cannot be understood as one number"
    return "RescaleSlope is 0: all voxels would be equal" if values[0] == (0.0,) else ""


def is_turned(dataset: Dataset, unit: str, stored: NDArray[Any] | None = None) -> bool:
    """Whether values are turned, so that what is shown bright is high.

    MONOCHROME1 says that low values are to be *shown* bright. Values that are measured stay as they
    are, however they are shown: those of CT, MR, PET and nuclear medicine (a CT is in HU where no
    RescaleType says otherwise, PS3.3 C.8.2.1), and all with a unit (RescaleType or ModalityLUTType
    other than US, Units). Turned are projections and pictures (CR, DX, mammography, angiography,
    secondary captures, ...), so that bone is bright in all of them; and no floating-point values.

    Args:
        dataset: of the file.
        unit: RescaleType or ModalityLUTType, in capitals.
        stored: the values of the frame.
    """
    if dataset.get("PhotometricInterpretation") != "MONOCHROME1":
        return False
    if stored is not None and stored.dtype.kind == "f":
        return False
    if dataset.get("SOPClassUID") in MEASURED or dataset.get("Units") or unit not in NO_UNIT:
        return False
    # A CT that was saved as a secondary capture.
    return not (dataset.get("Modality") == "CT" and dataset.get("RescaleIntercept") is not None)


def _turned(dataset: Dataset, stored: NDArray[Any]) -> NDArray[Any]:
    """``low + high - v``, of the values that BitsStored bits can hold: alike in all planes."""
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    total = -1 if stored.dtype.kind == "i" else 2**bits - 1
    return (total - stored.astype(np.int64)).astype(stored.dtype)


def _transformation(dataset: Dataset, frame: int) -> Dataset | None:
    for keyword, index in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        for group in list(dataset.get(keyword) or [])[index : index + 1]:
            if group.get("PixelValueTransformationSequence"):
                found: Dataset = group.PixelValueTransformationSequence[0]
                return found
    return None


def narrowest(array: NDArray[Any], before: np.dtype[Any] | None = None) -> np.dtype[Any]:
    """The type for these values and for those of type ``before``.

    The first of uint8, int16, uint16, int32 that holds them all exactly; float32 for fractions,
    and for whole numbers beyond 32 bits.
    """
    single = np.dtype(np.float32)
    if single in (before, array.dtype) or array.dtype.kind == "f":
        return single
    low, high = int(array.min()), int(array.max())
    for dtype in holding(low, high):
        if before is None or np.can_cast(before, dtype):
            return dtype
    return single
