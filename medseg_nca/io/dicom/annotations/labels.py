"""Segments of DICOM objects, and label maps made from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.labels import Code
from medseg_nca.errors import DataError
from medseg_nca.io.dicom.annotations.concepts import Concept
from medseg_nca.io.dicom.annotations.legend import Legend
from medseg_nca.io.dicom.annotations.packed import PackedMask
from medseg_nca.io.dicom.records import Problem
from medseg_nca.io.volume import OnGrid, Volume

_BATCH = 2**22

OverlapRule = Literal["last", "smallest", "refuse"]


@dataclass(frozen=True)
class Segment:
    """One segment of a SEG or one ROI of an RTSTRUCT, on the grid of an image.

    Attributes:
        number: SegmentNumber or ROINumber.
        concept: what it is; its name is cleaned and never empty.
        shape: of the image, ``(x, y, z)`` or ``(x, y)``.
        packed: the mask, held small.
        algorithm: how it was made, in the object's word (MANUAL, SEMIAUTOMATIC, AUTOMATIC), or "".
    """

    number: int
    concept: Concept
    shape: tuple[int, ...]
    packed: PackedMask
    algorithm: str = ""

    @classmethod
    def from_mask(cls, number: int, concept: Concept, mask: NDArray[Any]) -> Self:
        """Make a segment of a whole mask, ``(x, y, z)`` or ``(x, y)`` bool."""
        return cls(number, concept, mask.shape, PackedMask.pack(mask))

    @property
    def name(self) -> str:
        """SegmentLabel or ROIName."""
        return self.concept.name

    @property
    def code(self) -> Code | None:
        """The property type; None where the object says nothing."""
        return self.concept.code

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The whole mask, bool, of ``shape``; made anew at each call."""
        whole = np.zeros(self.shape, bool)
        self.packed.paint(whole, True)
        return whole

    @property
    def voxels(self) -> int:
        """How many voxels belong to it."""
        return self.packed.voxels


@dataclass(frozen=True)
class Segments:
    """All segments of one object, and what its reader has to say about them."""

    segments: tuple[Segment, ...]
    notes: tuple[Problem, ...] = ()

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)

    def __len__(self) -> int:
        return len(self.segments)


@dataclass(frozen=True)
class Overlap:
    """How many voxels of ``label`` carry ``covered_by`` in the label map instead."""

    label: str
    covered_by: str
    voxels: int


@dataclass(frozen=True)
class Composed:
    """A label map, ``(1, *shape)`` of the smallest unsigned dtype, and what was covered in it."""

    label_map: Volume
    overlaps: tuple[Overlap, ...]

    @property
    def overlapping_voxels(self) -> int:
        """How many times a voxel of one label was given to another."""
        return sum(overlap.voxels for overlap in self.overlaps)


def compose(
    segments: Iterable[Segment], legend: Legend, image: OnGrid, *, overlap: OverlapRule = "last"
) -> Composed:
    """Make one label map of segments, which may overlap.

    Two segments of the same label are united, which is no overlap.

    Args:
        segments: on the grid of ``image``.
        legend: their labels; a label's first value is written.
        image: gives the grid.
        overlap: who gets a voxel of several labels. ``last``: the higher segment number.
            ``smallest``: the segment with fewer voxels, of equal ones the higher number.
            ``refuse``: nobody, it is an error.

    Raises:
        DataError: if a segment has no label in the legend or lies on another grid; if segments
            overlap and that is refused.
    """
    ordered = sorted(segments, key=lambda segment: segment.number)
    if overlap == "smallest":
        ordered.sort(key=lambda segment: -segment.voxels)
    largest = max(label.values[0] for label in legend.table.labels)
    result = np.zeros(image.shape, np.min_scalar_type(largest))
    names = {label.values[0]: label.name for label in legend.table.labels}
    covered: Counter[tuple[str, str]] = Counter()
    for segment in ordered:
        if segment.shape != image.shape:
            raise DataError(
                f"Segment {segment.number} has the shape {segment.shape}, the image {image.shape}.",
                hint="Read the segments on the grid of this image.",
            )
        label = legend.label_of(segment.concept)
        if label is None:
            raise DataError(
                f"Segment {segment.number} has no label in the legend.",
                hint="Make the legend of the segments of all cases.",
            )
        for value, count in _paint(result, segment.packed, label.values[0]).items():
            covered[names[value], label.name] += count
    overlaps = tuple(Overlap(*pair, count) for pair, count in covered.items())
    if overlap == "refuse" and overlaps:
        raise DataError(_overlap_message(overlaps), hint="Allow overlaps: last or smallest.")
    return Composed(Volume(result[np.newaxis], image.affine, image.sources), overlaps)


def _paint(result: NDArray[Any], packed: PackedMask, value: int) -> dict[int, int]:
    """Give a segment's voxels to a label; return how many it took from which other label."""
    if not packed.voxels:
        return {}
    region, part = result[packed.box], packed.part()
    before = region[part]
    region[part] = value
    taken: Counter[int] = Counter()
    for start in range(0, len(before), _BATCH):  # counting takes 8 bytes a voxel
        counts = np.bincount(before[start : start + _BATCH])
        taken.update({int(old): int(counts[old]) for old in np.flatnonzero(counts)})
    return {old: count for old, count in taken.items() if old not in (0, value)}


def _overlap_message(overlaps: Sequence[Overlap]) -> str:
    first = max(overlaps, key=lambda overlap: overlap.voxels)
    more = f", and {len(overlaps) - 1} other pairs" if len(overlaps) > 1 else ""
    return (
        f"Segments overlap: {first.voxels} voxels of label {first.label!r} also belong to "
        f"{first.covered_by!r}{more}."
    )
