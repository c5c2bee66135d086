"""Assign the contours of a structure to the slices of an image, and fill them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.dicom.annotations.nesting import Filled, fill_plane
from medseg_nca.io.dicom.annotations.packed import PackedMask
from medseg_nca.io.dicom.records import Problem
from medseg_nca.io.volume import OnGrid

# Distances in slices. A contour that spans more than the first does not lie in a slice; contours
# further apart than the second lie on two planes; a contour further from its slice than the third
# is reported. A contour halfway between two slices, up to the fourth, always goes to the same one.
_MAX_SPAN, _SAME_PLANE, _OFF_SLICE, _ROUNDING = 0.5, 0.01, 0.1, 1e-3

_NOTES = {
    "not-closed": "{n} contours are points or open lines; they have no area and are left out",
    "bad-contour": "{n} contours have unreadable, missing or absurd coordinates and are left out",
    "point-count": "{n} contours have another number of points than they claim",
    "repeated-contour": "{n} contours are there twice, or all but the same, and count once",
    "overlapping-contours": "{n} contours overlap others in part; they are united",
    "no-contours": "it has no closed contour and is left out",
    "not-in-slice": "{n} contours do not lie in a slice of the image and are left out",
    "outside-image": "{n} contours lie outside the image",
    "between-slices": "{n} contours are left out, as others lie nearer to the same slice",
    "off-slice": "{n} contours lie off their slice by more than a tenth of the slices' distance",
    "slices-between-contours": "{n} slices between contours have none; nothing is interpolated",
    "empty-segment": "its contours hold no voxel centre",
}


@dataclass
class Findings:
    """Counts of what is to be told of each structure: one note for 10,000 odd contours."""

    path: Path
    counts: Counter[tuple[int, str]] = field(default_factory=Counter)

    def add(self, roi: int, kind: str, count: int = 1) -> None:
        """Count something of a structure, named by its number, under a key of the notes."""
        if count:
            self.counts[roi, kind] += count

    def notes(self) -> Iterator[Problem]:
        """Yield one note per structure and kind."""
        for (roi, kind), count in sorted(self.counts.items()):
            yield Problem(kind, f"{self.path}: ROI {roi}: {_NOTES[kind].format(n=count)}.")


@dataclass(frozen=True)
class Contour:
    """The points of a closed contour, ``(n, 3)``, and whether it is declared CLOSEDPLANAR_XOR."""

    points: NDArray[np.float64]
    xor: bool = False


def fill_slices(
    roi: int, contours: Sequence[Contour], image: OnGrid, findings: Findings
) -> tuple[PackedMask, int]:
    """Return the mask of one structure, and how many of its contours lie on slices of the image.

    Args:
        roi: its number.
        contours: LPS mm.
        image: its third axis counts the slices.
        findings: gets what was left out.
    """
    shape = (*image.shape, 1)[:3]
    to_index = np.linalg.inv(image.affine)
    slices: dict[int, list[Contour]] = defaultdict(list)
    for contour in contours:
        index = (contour.points * (-1, -1, 1)) @ to_index[:3, :3].T + to_index[:3, 3]
        low, high = index.min(axis=0), index.max(axis=0)
        if high[2] - low[2] > _MAX_SPAN:
            findings.add(roi, "not-in-slice")
            continue
        number = _slice_of(index)
        if not 0 <= number < shape[2] or (high < -0.5).any() or (low > np.array(shape) - 0.5).any():
            findings.add(roi, "outside-image")
            continue
        slices[number].append(Contour(index, contour.xor))
    masks = {}
    for number, found in sorted(slices.items()):
        nearest = _nearest_plane(number, found)
        findings.add(roi, "between-slices", len(found) - len(nearest))
        off = [abs(contour.points[:, 2].mean() - number) > _OFF_SLICE for contour in nearest]
        findings.add(roi, "off-slice", sum(off))
        masks[number], filled = _fill(nearest, shape[:2])
        findings.add(roi, "repeated-contour", filled.copies)
        findings.add(roi, "overlapping-contours", filled.overlapping)
    if slices:
        findings.add(roi, "slices-between-contours", max(slices) - min(slices) + 1 - len(slices))
    packed = _stack(masks)
    findings.add(roi, "empty-segment", int(bool(slices) and not packed.voxels))
    if image.dims == 2:
        packed = PackedMask(packed.start[:2], packed.size[:2], packed.voxels, packed.bits)
    return packed, sum(map(len, slices.values()))


def _slice_of(index: NDArray[np.float64]) -> int:
    return int(np.floor(index[:, 2].mean() + 0.5 + _ROUNDING))


def _nearest_plane(number: int, contours: Sequence[Contour]) -> list[Contour]:
    """The contours of the plane that is nearest to a slice; others are of slices between."""
    places = np.array([contour.points[:, 2].mean() for contour in contours])
    nearest = places[np.argmin(np.abs(places - number))]
    return [
        contour
        for contour, place in zip(contours, places, strict=True)
        if abs(place - nearest) <= _SAME_PLANE
    ]


def _fill(contours: Sequence[Contour], shape: tuple[int, ...]) -> tuple[PackedMask, Filled]:
    """Fill the contours of one slice, in voxel coordinates, within their bounding box."""
    low = np.min([contour.points.min(axis=0) for contour in contours], axis=0)[:2]
    high = np.max([contour.points.max(axis=0) for contour in contours], axis=0)[:2]
    start = np.clip(np.floor(low), 0, shape).astype(int)
    stop = np.clip(np.ceil(high) + 1, start, shape).astype(int)
    moved = [(contour.points[:, :2] - start, contour.xor) for contour in contours]
    filled = fill_plane(
        [points for points, xor in moved if not xor],
        [points for points, xor in moved if xor],
        (int(stop[0] - start[0]), int(stop[1] - start[1])),
    )
    return PackedMask.pack(filled.mask, (int(start[0]), int(start[1]))), filled


def _stack(masks: Mapping[int, PackedMask]) -> PackedMask:
    """Join masks of slices, by their number along the third axis."""
    used = {number: mask for number, mask in masks.items() if mask.voxels}
    if not used:
        return PackedMask.pack(np.zeros((0, 0, 0), bool))
    start = np.min([mask.start for mask in used.values()], axis=0)
    stop = np.max([np.add(mask.start, mask.size) for mask in used.values()], axis=0)
    first = min(used)
    block = np.zeros((*(stop - start), max(used) - first + 1), bool)
    for number, mask in used.items():
        x, y = np.subtract(mask.start, start)
        block[x : x + mask.size[0], y : y + mask.size[1], number - first] = mask.part()
    return PackedMask.pack(block, (int(start[0]), int(start[1]), first))
