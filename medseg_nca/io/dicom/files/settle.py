"""Turn the raw elements of a parsed data set into values, once, where strange ones can be met."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Contours and tables of numbers stay raw until they are asked for: each number is an object.
_LONG_VALUE = 16 * 1024
NUMBERS = frozenset(("DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"))
# These say what all voxels mean: one that is no number must not look as if it were not there.
TELLING = frozenset((0x00281052, 0x00281053))  # RescaleIntercept, RescaleSlope
# Beyond that many elements (thousands of frames), what is not asked for stays raw, too.
_MAX_SETTLED = 100_000


def settle(dataset: Dataset) -> Dataset:
    """Convert the values of a data set and of its sequences; drop those that cannot be.

    RescaleSlope and RescaleIntercept become NaN instead.

    pydicom converts a value when it is first asked for, and raises there: one odd number in a
    private element would surprise whoever walks over the data set.

    Args:
        dataset: is changed; the caller holds :func:`quiet.quiet`.

    Returns:
        The same data set.
    """
    _settle(dataset, _MAX_SETTLED)
    return dataset


def _settle(dataset: Dataset, budget: int) -> int:
    """Convert the values of a data set; returns how many more elements may be converted."""
    for tag in sorted(dataset.keys()):
        if budget <= 0:
            return 0
        budget -= 1
        if _stays_raw(dataset, tag):
            continue
        try:
            element = dataset[tag]
            if element.VR == "PN":
                str(element.value)  # names are decoded when they are first shown
        except Exception:
            _drop(dataset, tag)
            continue
        if element.VR in NUMBERS and not are_numbers(element.value):
            _drop(dataset, tag)
        elif element.VR == "SQ":
            for item in element.value:
                budget = _settle(item, budget)
    return budget


def _drop(dataset: Dataset, tag: int) -> None:
    del dataset[tag]
    if tag in TELLING:
        from pydicom.dataelem import DataElement

        dataset[tag] = DataElement(tag, "FD", float("nan"))


def are_numbers(value: Any) -> bool:
    """Whether a value is made of numbers; pydicom falls back to text where it cannot convert."""
    values = [value] if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") else value
    return not any(isinstance(item, (str, bytes)) and item for item in values)


def _stays_raw(dataset: Dataset, tag: int) -> bool:
    from pydicom.datadict import dictionary_has_tag, dictionary_VR
    from pydicom.dataelem import RawDataElement

    raw = dataset.get_item(tag)
    if not isinstance(raw, RawDataElement) or len(raw.value or b"") <= _LONG_VALUE:
        return False
    vr = dictionary_VR(tag) if raw.VR in (None, "UN") and dictionary_has_tag(tag) else raw.VR
    return vr != "SQ"
