"""Rules for segmentation objects (PS3.3 A.51, C.8.20)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from medseg_nca.io.dicom.check.codes import code_rules
from medseg_nca.io.dicom.check.rules import ObjectFinding, error, warning

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SHAPES = {"BINARY": (1,), "FRACTIONAL": (8,), "LABELMAP": (8, 16)}
_BACKGROUND = 0


def seg_rules(dataset: Dataset) -> Iterator[ObjectFinding]:
    """Segments, frames, geometry and references agree."""
    kind = str(dataset.get("SegmentationType", ""))
    bits = dataset.get("BitsAllocated")
    if kind not in _SHAPES:
        yield error(f"SegmentationType is {kind!r}")
    elif bits not in _SHAPES[kind]:
        yield error(f"a {kind} segmentation has {bits} bits a pixel")
    yield from _segments(dataset, kind)
    yield from _frames(dataset, kind)
    yield from _sources(dataset)


def _segments(dataset: Dataset, kind: str) -> Iterator[ObjectFinding]:
    segments = dataset.get("SegmentSequence") or []
    numbers = [int(segment.SegmentNumber) for segment in segments]
    if not numbers:
        yield error("there is no segment")
    if len(set(numbers)) != len(numbers):
        yield error(f"segment numbers are used twice: {_twice(numbers)}")
    elif kind != "LABELMAP" and numbers != list(range(1, len(numbers) + 1)):
        yield error(f"segment numbers do not count from 1: {numbers[:10]}")
    identities: Counter[tuple[str, ...]] = Counter()
    for segment in segments:
        number, where = int(segment.SegmentNumber), f"segment {segment.SegmentNumber}"
        if number == _BACKGROUND:
            continue
        for keyword in (
            "SegmentedPropertyCategoryCodeSequence",
            "SegmentedPropertyTypeCodeSequence",
        ):
            items = segment.get(keyword) or []
            if len(items) != 1:
                yield error(f"{where}: has no {keyword}")
            for item in items:
                yield from code_rules(item, where)
        identities[_codes(segment)] += 1
        if segment.get("SegmentAlgorithmType") != "MANUAL" and not segment.get(
            "SegmentAlgorithmName"
        ):
            yield error(f"{where}: does not say by what algorithm it was made")
    if any(count > 1 for count in identities.values()):
        yield warning("several segments have the same code; only their labels tell them apart")


def _codes(segment: Dataset) -> tuple[str, ...]:
    """What identifies a segment beside its label: type, modifiers and place."""
    found = []
    for item in segment.get("SegmentedPropertyTypeCodeSequence") or []:
        parts = [item, *(item.get("SegmentedPropertyTypeModifierCodeSequence") or [])]
        found += [f"{part.get('CodingSchemeDesignator')}:{part.get('CodeValue')}" for part in parts]
    for item in segment.get("AnatomicRegionSequence") or []:
        parts = [item, *(item.get("AnatomicRegionModifierSequence") or [])]
        found += [f"{part.get('CodingSchemeDesignator')}:{part.get('CodeValue')}" for part in parts]
    return tuple(found)


def _frames(dataset: Dataset, kind: str) -> Iterator[ObjectFinding]:
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    if len(groups) != int(dataset.get("NumberOfFrames") or 0):
        yield error(f"{len(groups)} frames are described, NumberOfFrames is another")
    indices = len(dataset.get("DimensionIndexSequence") or [])
    numbers = {int(segment.SegmentNumber) for segment in dataset.get("SegmentSequence") or []}
    places: list[tuple[Any, ...]] = []
    for group in groups:
        content = (group.get("FrameContentSequence") or [{}])[0]
        values = content.get("DimensionIndexValues")
        count = len(values) if isinstance(values, list | tuple) or hasattr(values, "append") else 1
        if values is None or count != indices:
            yield error("a frame has not one index value for each dimension")
        number = _one(group, shared, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
        if kind != "LABELMAP" and (number is None or int(number) not in numbers):
            yield error("a frame belongs to no segment")
        if not dataset.get("FrameOfReferenceUID"):
            continue
        place = _one(group, shared, "PlanePositionSequence", "ImagePositionPatient")
        orientation = _one(group, shared, "PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = _one(group, shared, "PixelMeasuresSequence", "PixelSpacing")
        if not place or not orientation or not spacing:
            yield error("a frame has no position, orientation or pixel spacing")
        else:
            places.append((number, *(round(float(value), 3) for value in place)))
    if len(set(places)) != len(places):
        yield error("two frames of one segment lie at the same place")


def _one(group: Dataset, shared: Dataset | None, sequence: str, keyword: str) -> Any:
    """A value from the frame's functional groups, or else from the shared ones."""
    for holder in (group, shared):
        if holder is not None and holder.get(sequence):
            return holder[sequence].value[0].get(keyword)
    return None


def _sources(dataset: Dataset) -> Iterator[ObjectFinding]:
    named = {
        str(item.ReferencedSOPInstanceUID)
        for series in dataset.get("ReferencedSeriesSequence") or []
        for item in series.get("ReferencedInstanceSequence") or []
    }
    if not named:
        yield warning("it does not say which series it was made from")
    used = {
        str(item.ReferencedSOPInstanceUID)
        for group in dataset.get("PerFrameFunctionalGroupsSequence") or []
        for derivation in group.get("DerivationImageSequence") or []
        for item in derivation.get("SourceImageSequence") or []
    }
    if named and used - named:
        yield error("a frame was made from an instance that the list of references lacks")


def _twice(numbers: list[int]) -> str:
    return ", ".join(str(n) for n, count in Counter(numbers).items() if count > 1)
