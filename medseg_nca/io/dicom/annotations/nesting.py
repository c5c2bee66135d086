"""What several outlines of one plane mean together: holes, islands, overlaps, copies.

PS3.3 C.8.8.6.3: CLOSEDPLANAR_XOR outlines are combined by XOR; of CLOSED_PLANAR ones the standard
says nothing. Software draws holes as outlines within outlines, and parts of an organ as outlines
that may overlap, or that it writes twice. So an outline that lies inside another is a hole (within
a hole, an island), others are united, and copies count once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.dicom.annotations.packed import PackedMask
from medseg_nca.io.dicom.annotations.polygons import contour_mask

Points = NDArray[np.float64]
Mask = NDArray[np.bool_]
_Pair = tuple[int, int]

# Distances in voxels. Two outlines that are nowhere further apart than the first are one outline,
# written twice: a wall of that thickness has no voxel. Where XOR is declared a thin wall may be
# meant, so the second, smaller distance counts.
COPY, COPY_OF_XOR = 0.5, 0.05
# An outline that leaves another by at most this lies inside it.
LEAVES = 0.1
# The distance between two samples of an outline, and the most samples of one.
_STEP, _MOST = 0.25, 20_000
# Whether outlines lie inside each other is decided on simplified ones. These leave the original by
# at most the first number; outlines with fewer points than the second are not simplified.
_COARSE, _FEW = 0.005, 512
# The number of distances that are computed at once.
_BATCH = 2**20


@dataclass(frozen=True)
class Filled:
    """The voxels of one plane, and what is to be told of its outlines.

    Attributes:
        mask: ``(x, y)``.
        copies: outlines that are all but the same as another one.
        overlapping: outlines that share voxels with others and lie inside none of them.
    """

    mask: Mask
    copies: int = 0
    overlapping: int = 0


def fill_plane(planar: Sequence[Points], xor: Sequence[Points], shape: tuple[int, int]) -> Filled:
    """Fill the outlines of one region in one plane.

    Args:
        planar: CLOSED_PLANAR outlines, each ``(n, 2)`` voxel coordinates as
            :func:`medseg_nca.io.dicom.annotations.polygons.contour_mask` takes them.
        xor: CLOSEDPLANAR_XOR outlines, which are combined by XOR among each other and with what the
            others give.
        shape: voxels along x and y.
    """
    united = _united(planar, shape)
    groups = _copies([_coarse(points) for points in xor], COPY_OF_XOR)
    once = [xor[group[0]] for group in groups]
    copies = united.copies + len(xor) - len(once)
    if not once:
        return Filled(united.mask, copies, united.overlapping)
    mask, on = contour_mask(once, shape), _on(once, shape)
    return Filled((united.mask ^ mask) | on, copies, united.overlapping)


def _united(outlines: Sequence[Points], shape: tuple[int, int]) -> Filled:
    if len(outlines) < 2:
        return Filled(contour_mask(outlines, shape))
    coarse = [_coarse(points) for points in outlines]
    copies = _copies(coarse, COPY)
    groups = [[outlines[index] for index in group] for group in copies]
    inside = _inside([coarse[group[0]] for group in copies])
    within: dict[int, list[int]] = {}
    for index, parents in enumerate(inside):
        nearest = [n for n in parents if not any(n in inside[m] for m in parents)]
        for parent in nearest:
            within.setdefault(parent, []).append(index)

    @cache
    def part(index: int, *, hole: bool) -> PackedMask:
        """An outline's voxels without those of the outlines in it, which are of the other kind.

        A centre on an outline belongs to the region, so it is no part of a hole.
        """
        start, size = _window(groups[index], shape)
        moved = [points - start for points in groups[index]]
        mask = np.any([contour_mask([points], size) for points in moved], axis=0)
        if hole:
            mask &= ~_on(moved, size)
        for child in within.get(index, ()):
            other = part(child, hole=not hole)
            replace(other, start=_minus(other.start, start)).paint(mask, False)
        return PackedMask.pack(mask, start)

    result = np.zeros(shape, bool)
    overlapping = 0
    for root in (index for index, parents in enumerate(inside) if not parents):
        found = part(root, hole=False)
        shared = result[found.box] & found.part()
        overlapping += int((shared & ~_on(groups[root], shape)[found.box]).any())
        found.paint(result, True)
    return Filled(result, len(outlines) - len(groups), overlapping)


def _window(outlines: Sequence[Points], shape: tuple[int, int]) -> tuple[_Pair, _Pair]:
    """First voxel and size of the part of a plane that some outlines, and those in them, take."""
    low = np.min([points.min(axis=0) for points in outlines], axis=0)
    high = np.max([points.max(axis=0) for points in outlines], axis=0)
    start = np.clip(np.floor(low) - 1, 0, shape).astype(int)
    stop = np.clip(np.ceil(high) + 2, start, shape).astype(int)
    return (int(start[0]), int(start[1])), _minus(stop, start)


def _minus(one: Any, other: Any) -> _Pair:
    return int(one[0] - other[0]), int(one[1] - other[1])


def _on(outlines: Sequence[Points], shape: tuple[int, int]) -> Mask:
    """The voxels whose centres lie on an outline."""
    return contour_mask([p for points in outlines for p in (points, points)], shape)


def _coarse(points: Points) -> Points:
    """An outline of fewer points that is nowhere further away than :data:`_COARSE`."""
    from skimage import measure

    if len(points) <= _FEW:
        return points
    approximate: Any = measure.approximate_polygon  # scikit-image has no types
    fewer: Points = approximate(np.concatenate([points, points[:1]]), _COARSE)[:-1]
    return fewer if len(fewer) > 2 else points


def _copies(outlines: Sequence[Points], reach: float) -> list[list[int]]:
    """Group the numbers of outlines that are nowhere further apart than a distance."""
    groups: list[list[int]] = []
    boxes: list[NDArray[np.float64]] = []
    for number, points in enumerate(outlines):
        box = np.concatenate([points.min(axis=0), points.max(axis=0)])
        near = np.flatnonzero((np.abs(np.array(boxes) - box) < reach).all(axis=1)) if boxes else ()
        for index in near:
            if _same(outlines[groups[index][0]], points, reach):
                groups[index].append(number)
                break
        else:
            groups.append([number])
            boxes.append(box)
    return groups


def _same(one: Points, other: Points, reach: float) -> bool:
    return not (_further(_samples(one), other, reach) or _further(_samples(other), one, reach))


def _inside(outlines: Sequence[Points]) -> list[set[int]]:
    """For each outline, the outlines that it lies inside of."""
    low = np.array([points.min(axis=0) for points in outlines])
    high = np.array([points.max(axis=0) for points in outlines])
    result: list[set[int]] = []
    for index, points in enumerate(outlines):
        around = (low <= low[index] + LEAVES) & (high >= high[index] - LEAVES)
        larger = [n for n in np.flatnonzero(around.all(axis=1)).tolist() if n != index]
        result.append({n for n in larger if _lies_inside(points, outlines[n])})
    return result


def _lies_inside(inner: Points, outer: Points) -> bool:
    """Whether no part of an outline leaves another, nor the other one enters it."""
    from skimage import measure

    contains: Any = measure.points_in_poly  # scikit-image has no types
    samples = _samples(inner)
    if _further(samples[~contains(samples, outer)], outer, LEAVES):
        return False
    samples = _samples(outer)
    low, high = inner.min(axis=0), inner.max(axis=0)
    samples = samples[((samples > low) & (samples < high)).all(axis=1)]
    return not _further(samples[contains(samples, inner)], inner, LEAVES)


def _samples(points: Points) -> Points:
    """Points along an outline, its corners among them."""
    run = np.roll(points, -1, axis=0) - points
    lengths = np.hypot(*run.T)
    step = max(_STEP, float(lengths.sum()) / _MOST)
    counts = np.maximum(np.ceil(lengths / step), 1).astype(np.int64)
    edge = np.repeat(np.arange(len(points)), counts)
    part = (np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)) / counts[edge]
    result: Points = points[edge] + part[:, None] * run[edge]
    return result


def _further(samples: Points, outline: Points, reach: float) -> bool:
    """Whether any of the samples is at least so far from an outline."""
    start, run = outline, np.roll(outline, -1, axis=0) - outline
    squared = (run**2).sum(axis=1)
    rows = max(1, _BATCH // len(outline))
    for first in range(0, len(samples), rows):
        gap = samples[first : first + rows, None] - start
        part = np.divide(
            (gap * run).sum(axis=2), squared, out=np.zeros(gap.shape[:2]), where=squared > 0
        )
        gap = gap - np.clip(part, 0, 1)[..., None] * run
        if ((gap**2).sum(axis=2).min(axis=1) >= reach**2).any():
            return True
    return False
