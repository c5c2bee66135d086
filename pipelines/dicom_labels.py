"""Label maps of imported images: annotations placed on the grid, and one label table for all cases.

A case's label map is first written with numbers of its own, because the table of the data set is
known only when all cases are read; then every map gets the table's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import Code, LabelTable, Settings
from medseg_nca.errors import DataError, MedsegError
from medseg_nca.io.dicom.annotations.assign import Annotation, read_annotation
from medseg_nca.io.dicom.annotations.concepts import Concept
from medseg_nca.io.dicom.annotations.labels import (
    OverlapRule,
    Segment,
    compose,
    find_label,
    merge_tables,
)
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.records import Problem
from medseg_nca.io.volume import OnGrid, Volume

# Tells whether a name is that of a patient, so that it cannot be a label's.
Forbidden = Callable[[str], bool]


class FoundSegment(Settings):
    """What a number in a case's own label map means."""

    value: int
    name: str
    code: Code | None = None
    modifiers: tuple[Code, ...] = ()

    @property
    def concept(self) -> Concept:
        """What tables are merged by."""
        return Concept(self.name, self.code, self.modifiers)


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
class _Group:
    """Objects that go into one label map."""

    objects: list[Annotation]
    segments: list[Segment]
    notes: list[Problem]
    concepts: set[tuple[str, Code | None]]
    covered: NDArray[np.bool_]

    def takes(self, other: _Group) -> bool:
        return not self.concepts & other.concepts and not (self.covered & other.covered).any()

    def add(self, other: _Group) -> None:
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
    groups: list[_Group] = []
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


def table_of(maps: Iterable[Sequence[FoundSegment]]) -> LabelTable | None:
    """One table for all label maps, in the order of the cases; None if there is no segment."""
    cases = [[segment.concept for segment in segments] for segments in maps]
    return merge_tables(cases) if any(cases) else None


def renumber(
    array: NDArray[Any], segments: Sequence[FoundSegment], table: LabelTable
) -> NDArray[Any]:
    """Give a label map the numbers of a table."""
    numbers = numbers_of(segments, table)
    lookup = np.zeros(max([0, *numbers]) + 1, np.int32)
    for own, number in numbers.items():
        lookup[own] = number
    result: NDArray[Any] = lookup[array]
    return result


def numbers_of(segments: Sequence[FoundSegment], table: LabelTable) -> dict[int, int]:
    """The table's number of each number in a case's own label map.

    Raises:
        DataError: if a segment is not in the table.
    """
    numbers = {}
    for segment in segments:
        label = find_label(segment.concept, table)
        if label is None:
            raise DataError(f"The label {segment.name!r} is not in the table of the data set.")
        numbers[segment.value] = label.values[0]
    return numbers


def _read(image: OnGrid, annotation: Annotation, forbidden: Forbidden | None) -> _Group:
    found = read_annotation(annotation.path, annotation.kind, image)
    segments = [_named(segment, forbidden) for segment in found]
    if not segments:
        text = f"{annotation.path}: describes no segment."
        raise DicomError(Problem("no-segments", text))
    covered = np.zeros(image.shape, bool)
    for segment in segments:
        segment.packed.paint(covered, True)
    concepts = {(segment.name.casefold(), segment.code) for segment in segments}
    return _Group([annotation], segments, list(found.notes), concepts, covered)


def _named(segment: Segment, forbidden: Forbidden | None) -> Segment:
    """The segment without the name of a patient; its code says enough, or its number must."""
    if forbidden is None:
        return segment
    code = segment.code
    if code is not None and forbidden(code.meaning):
        code = code.model_copy(update={"meaning": ""})
    if forbidden(segment.name):
        fallback = code.meaning if code is not None and code.meaning else f"region {segment.number}"
        return replace(segment, name=fallback, code=code)
    return replace(segment, code=code)


def _compose(image: OnGrid, group: _Group, overlap: OverlapRule) -> LabelMap:
    # Numbers of several objects would clash; a later object counts as the higher number.
    segments = [replace(s, number=index) for index, s in enumerate(group.segments, start=1)]
    table = merge_tables([[segment.concept for segment in segments]])
    composed = compose(segments, table, image, overlap=overlap)
    found: list[FoundSegment] = []
    for segment in segments:
        label = find_label(segment.concept, table)
        if label is not None and label.values[0] not in {known.value for known in found}:
            found.append(_found(label.values[0], segment))
    overlaps = tuple(
        FoundOverlap(label=o.label, covered_by=o.covered_by, voxels=o.voxels)
        for o in composed.overlaps
    )
    return LabelMap(
        composed.label_map, tuple(found), overlaps, tuple(group.objects), tuple(group.notes)
    )


def _found(value: int, segment: Segment) -> FoundSegment:
    concept = segment.concept
    return FoundSegment(
        value=value, name=concept.name, code=concept.code, modifiers=concept.modifiers
    )


def _problem(error: MedsegError) -> Problem:
    if isinstance(error, DicomError):
        return error.problem
    return Problem("segments-overlap" if "overlap" in error.message else "unusable", error.message)
