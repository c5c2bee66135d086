"""What the values of a plane mean: planes that mean other things make no volume together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
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
    if len({plane.meaning.unit for plane in planes} - {""}) > 1:
        return f"its slices have several units: {_listed(planes, lambda m: m.unit or 'none')}"
    lacking = [plane for plane in planes if plane.meaning.rescale == "none"]
    if lacking and any(plane.meaning.rescale == "own" for plane in planes):
        return (
            f"{len(lacking)} of {len(planes)} slices have no RescaleSlope and RescaleIntercept, "
            f"and others do; the first is {_name(lacking[0])}"
        )
    if len({plane.meaning.shown for plane in planes}) > 1:
        kinds = _listed(planes, lambda m: m.shown or "MONOCHROME2")
        return f"its slices are to be shown in opposite ways: {kinds}"
    return ""


def _listed(planes: Sequence[Plane], word: Callable[[Meaning], str]) -> str:
    """Each word with the number of its planes, and the first plane of the rarest."""
    counts = Counter(word(plane.meaning) for plane in planes)
    rarest = min(counts, key=lambda one: counts[one])
    first = next(plane for plane in planes if word(plane.meaning) == rarest)
    words = ", ".join(f"{one} ({count})" for one, count in sorted(counts.items()))
    return f"{words}; the first with {rarest} is {_name(first)}"


def _name(plane: Plane) -> str:
    frame = "" if plane.frame is None else f", frame {plane.frame + 1}"
    return f"{plane.path}{frame}"
