"""Label maps of imported images: annotations placed on the grid, and one label table for all cases.

A case's label map is first written with numbers of its own, because the table of the data set is
known only when all cases are read; then every map gets the table's numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import Code, Settings
from medseg_nca.errors import DataError, MedsegError
from medseg_nca.io.dicom.annotations.assign import Annotation, read_annotation
from medseg_nca.io.dicom.annotations.concepts import Concept
from medseg_nca.io.dicom.annotations.labels import OverlapRule, Segment, compose
from medseg_nca.io.dicom.annotations.legend import (
    FoundSegment,
    Legend,
    make_legend,
    segment_key,
)
from medseg_nca.io.dicom.annotations.sides import side
from medseg_nca.io.dicom.deid.rules import SCHEMES
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.records import Problem
from medseg_nca.io.volume import OnGrid, Volume

# A function that tells whether a text names a patient, so that no label may have it as its name.
Forbidden = Callable[[str], bool]


class FoundOverlap(Settings):
    """Voxels of one label that carry another in the map."""

    label: str
    covered_by: str
    voxels: int


@dataclass(frozen=True)
class LabelMap:
    """One label map of an image, with numbers of its own."""

    volume: Volume
    segments: tuple[FoundSegment, ...]
    overlaps: tuple[FoundOverlap, ...]
    objects: tuple[Annotation, ...]
    notes: tuple[Problem, ...]


@dataclass(frozen=True)
class Placed:
    """What the annotations of an image gave."""

    maps: tuple[LabelMap, ...]
    refused: tuple[tuple[Annotation, Problem], ...]


@dataclass
class _MapGroup:
    """Objects that go into one label map."""

    objects: list[Annotation]
    segments: list[Segment]
    notes: list[Problem]
    concepts: set[tuple[Any, ...]]
    covered: NDArray[np.bool_]

    def takes(self, other: _MapGroup) -> bool:
        return not self.concepts & other.concepts and not (self.covered & other.covered).any()

    def add(self, other: _MapGroup) -> None:
        self.objects += other.objects
        self.segments += other.segments
        self.notes += other.notes
        self.concepts |= other.concepts
        self.covered |= other.covered


def place_annotations(
    image: OnGrid,
    annotations: Sequence[Annotation],
    overlap: OverlapRule,
    forbidden: Forbidden | None = None,
) -> Placed:
    """Read the annotations of an image and make label maps of them.

    Objects that have no label in common and cover no common voxel are one annotation in several
    files, and are united; others are annotations of their own, each of which gives a label map.

    Args:
        image: as read, not turned.
        annotations: in their order.
        overlap: what becomes of overlapping segments of one map.
        forbidden: names that must be replaced.
    """
    groups: list[_MapGroup] = []
    refused: list[tuple[Annotation, Problem]] = []
    for annotation in annotations:
        try:
            read = _read(image, annotation, forbidden)
        except MedsegError as error:
            refused.append((annotation, _problem(error)))
            continue
        home = next((group for group in groups if group.takes(read)), None)
        if home is None:
            groups.append(read)
        else:
            home.add(read)
    maps = []
    for group in groups:
        try:
            maps.append(_compose(image, group, overlap))
        except DataError as error:
            refused += [(annotation, _problem(error)) for annotation in group.objects]
    return Placed(tuple(maps), tuple(refused))


def legend_of(maps: Iterable[Sequence[FoundSegment]]) -> Legend | None:
    """One table for all label maps; None if there is no segment."""
    cases = [[segment.concept for segment in segments] for segments in maps]
    return make_legend(cases) if any(cases) else None


def renumber(array: NDArray[Any], numbers: Mapping[int, int]) -> NDArray[Any]:
    """Give a label map other numbers, as of :func:`numbers_of`."""
    lookup = np.zeros(max([0, *numbers]) + 1, np.int32)
    for own, number in numbers.items():
        lookup[own] = number
    result: NDArray[Any] = lookup[array]
    return result


def numbers_of(segments: Sequence[FoundSegment], legend: Legend) -> dict[int, int]:
    """The data set's number of each number in a case's own label map.

    Raises:
        DataError: if a segment is not in the legend.
    """
    numbers = {}
    for segment in segments:
        label = legend.label_of(segment.concept)
        if label is None:
            raise DataError(f"The label {segment.name!r} is not in the table of the data set.")
        numbers[segment.value] = label.values[0]
    return numbers


def _read(image: OnGrid, annotation: Annotation, forbidden: Forbidden | None) -> _MapGroup:
    found = read_annotation(annotation.path, annotation.kind, image)
    segments = _numbered(found.segments, [_named(segment, forbidden) for segment in found])
    if not segments:
        text = f"{annotation.path}: describes no segment."
        raise DicomError(Problem("no-segments", text))
    covered = np.zeros(image.shape, bool)
    for segment in segments:
        segment.packed.paint(covered, True)
    concepts = {segment_key(segment.concept) for segment in segments}
    return _MapGroup([annotation], segments, list(found.notes), concepts, covered)


def _named(segment: Segment, forbidden: Forbidden | None) -> Segment:
    """The segment without the name of a patient; its code and side say enough, or its number."""
    if forbidden is None:
        return segment

    def clean(*codes: Code | None) -> tuple[Code, ...]:
        return tuple(_clean(c, forbidden) for c in codes if c and not _is_named(c, forbidden))

    given = segment.concept
    code = next(iter(clean(given.code)), None)
    name = given.name
    if forbidden(name):
        meaning = code.meaning if code is not None else ""
        name = f"{meaning} {side(name)}".strip() if meaning else f"region {segment.number}"
    concept = Concept(
        name,
        code,
        clean(*given.modifiers),
        next(iter(clean(given.category)), None),
        clean(*given.regions),
        clean(*given.region_modifiers),
    )
    return replace(segment, concept=concept)


def _clean(code: Code, forbidden: Forbidden) -> Code:
    """A code without a meaning that names a patient."""
    return code.changed(meaning="") if forbidden(code.meaning) else code


def _is_named(code: Code, forbidden: Forbidden) -> bool:
    """Whether the code itself names a patient; numbers of known schemes are what they are."""
    if code.scheme in SCHEMES and code.value.isdigit():
        return False
    return forbidden(code.value) or (code.scheme not in SCHEMES and forbidden(code.scheme))


def _numbered(given: Sequence[Segment], named: Sequence[Segment]) -> list[Segment]:
    """Segments that only a name told apart, which had to go, get their numbers as names."""
    counts = Counter(segment_key(segment.concept) for segment in named)
    result = []
    for before, after in zip(given, named, strict=True):
        concept = after.concept
        if concept.name != before.name and counts[segment_key(concept)] > 1:
            concept = concept._replace(name=f"{concept.name} {after.number}")
        result.append(replace(after, concept=concept))
    return result


def _compose(image: OnGrid, group: _MapGroup, overlap: OverlapRule) -> LabelMap:
    # Numbers of several objects would clash; a later object counts as the higher number.
    segments = [replace(s, number=index) for index, s in enumerate(group.segments, start=1)]
    legend = make_legend([[segment.concept for segment in segments]])
    composed = compose(segments, legend, image, overlap=overlap)
    found: dict[int, FoundSegment] = {}
    for segment in segments:
        label = legend.label_of(segment.concept)
        if label is not None:
            found.setdefault(label.values[0], FoundSegment.of(label.values[0], segment.concept))
    overlaps = tuple(
        FoundOverlap(label=o.label, covered_by=o.covered_by, voxels=o.voxels)
        for o in composed.overlaps
    )
    return LabelMap(
        composed.label_map,
        tuple(found.values()),
        overlaps,
        tuple(group.objects),
        tuple(group.notes),
    )


def _problem(error: MedsegError) -> Problem:
    if isinstance(error, DicomError):
        return error.problem
    return Problem("segments-overlap" if "overlap" in error.message else "unusable", error.message)
