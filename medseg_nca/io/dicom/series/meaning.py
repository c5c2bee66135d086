"""What the values of a plane mean: planes that mean other things make no volume together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from medseg_nca.io.dicom.files.attributes import Attributes
from medseg_nca.io.dicom.files.classes import CT, MEASURED
from medseg_nca.io.dicom.pixels.rescale import NO_UNIT, RESCALE
from medseg_nca.io.dicom.records import Meaning, Plane, Problem


def meaning_of(attributes: Attributes) -> Meaning:
    """What the header of a plane says of its values."""
    kind = attributes.text("RescaleType").upper()
    unit = attributes.text("Units").upper() or ("" if kind in NO_UNIT else kind)
    shown = ""
    if not unit and attributes.text("SOPClassUID") not in MEASURED:
        inverted = attributes.text("PhotometricInterpretation") == "MONOCHROME1"
        shown = "MONOCHROME1" if inverted else ""
    slope, intercept = (attributes.number(name) for name in RESCALE)
    rescale = "own"
    if (slope or 1.0, intercept or 0.0) == (1.0, 0.0):
        rescale = "none" if slope is None and intercept is None else "same"
    return _shared(unit, rescale, shown)


@lru_cache(maxsize=256)
def _shared(unit: str, rescale: str, shown: str) -> Meaning:
    """One object for all planes that mean the same."""
    return Meaning(unit, rescale, shown)


def missing_rescale(attributes: Attributes) -> Problem | None:
    """A note where slope or intercept is missing beside the other, or both are in a CT.

    A CT must have both (PS3.3 C.8.2.1); without them its values may be no HU.
    """
    slope, intercept = (bool(attributes.texts(name)) for name in RESCALE)
    if intercept and not slope:
        return Problem("assumed-slope", "RescaleSlope is missing beside RescaleIntercept: 1.")
    if slope and not intercept:
        return Problem("assumed-intercept", "RescaleIntercept is missing beside RescaleSlope: 0.")
    if slope or attributes.text("SOPClassUID") not in CT or attributes.texts("ModalityLUTSequence"):
        return None
    text = "is a CT without RescaleSlope and RescaleIntercept: its values may be no HU."
    return Problem("assumed-intercept", text)


def mixed_meanings(planes: Sequence[Plane]) -> str:
    """Why values of planes cannot be compared with each other; "" if they can."""
    meanings = [plane.meaning for plane in planes]
    units = {meaning.unit for meaning in meanings} - {""}
    if len(units) > 1:
        return f"its slices have several units: {_counted(m.unit or 'none' for m in meanings)}"
    if {"none", "own"} <= {meaning.rescale for meaning in meanings}:
        lacking = sum(meaning.rescale == "none" for meaning in meanings)
        return (
            f"{lacking} of {len(planes)} slices have no RescaleSlope and RescaleIntercept, and "
            "others do"
        )
    if len({meaning.shown for meaning in meanings}) > 1:
        kinds = _counted(meaning.shown or "MONOCHROME2" for meaning in meanings)
        return f"its slices are to be shown in opposite ways: {kinds}"
    return ""


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{word} ({count})" for word, count in sorted(Counter(words).items()))
