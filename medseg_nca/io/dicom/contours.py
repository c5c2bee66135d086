"""Outlines of a mask in one plane, as polygons without holes (PS3.3 C.8.8.6.3).

CLOSED_PLANAR contours have no notion of a hole; the standard's way is the keyhole: the outline runs
along a narrow channel into the hole, around it and back. Readers that unite the contours of a plane
and readers that combine them by XOR both get the same region from that. The channels run between
the rows of voxel centres, so no centre lies on a channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]


def outlines(mask: NDArray[np.bool_]) -> list[Polygon]:
    """Return closed polygons around a mask.

    They run halfway between voxel centres inside and outside, so filling them by voxel centres
    gives the mask back exactly. Voxels that touch at a corner only are apart.

    Args:
        mask: ``(rows, columns)``.

    Returns:
        Polygons ``(n, 2)`` of (row, column) in pixel units, integers being pixel centres, each
        without a repeated last point; none for an empty mask.
    """
    from skimage import measure

    find: Any = measure.find_contours  # scikit-image has no types
    padded = np.pad(np.asarray(mask, dtype=np.float64), 1)
    rings = [ring[:-1] - 1 for ring in find(padded, 0.5, fully_connected="low")]
    rings = [_without_straight(ring) for ring in rings]
    # find_contours goes around what is inside in one direction and around holes in the other.
    outer = [ring for ring in rings if _area(ring) < 0]
    holes = [ring for ring in rings if _area(ring) > 0]
    return _keyholes(outer, holes)


def _area(ring: Polygon) -> float:
    """Twice the signed area."""
    rows, columns = ring.T
    return float(np.sum(rows * np.roll(columns, -1) - np.roll(rows, -1) * columns))


def _without_straight(ring: Polygon) -> Polygon:
    """Drop the points that lie on the straight line between their neighbours."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9
    return ring[turns]


def _keyholes(outer: list[Polygon], holes: list[Polygon]) -> list[Polygon]:
    """Join each hole to the ring that lies next to it, along the line of its last row.

    The line leaves the hole at its end (largest row, then largest column) and meets the next ring
    to the right: an outline, or a hole that reaches further down or lies further right. So the
    joins never form a circle, and holes are joined from those that end first.
    """
    rings = list(outer)
    waiting = sorted(holes, key=_end)
    while waiting:
        hole = waiting.pop(0)
        candidates = [*rings, *waiting]
        meetings = [_meeting(ring, _end(hole)) for ring in candidates]
        nearest = int(np.argmin([column for column, _ in meetings]))
        joined = _join(candidates[nearest], hole, *meetings[nearest])
        if nearest < len(rings):
            rings[nearest] = joined
        else:
            waiting[nearest - len(rings)] = joined
    return rings


def _end(ring: Polygon) -> tuple[float, float]:
    """The point with the largest row, then column."""
    return max((float(row), float(column)) for row, column in ring)


def _meeting(ring: Polygon, start: tuple[float, float]) -> tuple[float, int]:
    """Where a line from ``start`` towards larger columns meets a ring first.

    Returns:
        The column, infinite if it does not meet it, and the number of the edge.
    """
    row, column = start
    (r0, c0), (r1, c1) = ring.T, np.roll(ring, -1, axis=0).T
    crosses = (np.minimum(r0, r1) <= row) & (row <= np.maximum(r0, r1)) & (r0 != r1)
    slope = np.divide(c1 - c0, r1 - r0, out=np.zeros_like(c0), where=r0 != r1)
    met = np.where(crosses, c0 + slope * (row - r0), np.inf)
    met[met <= column + 1e-9] = np.inf
    edge = int(np.argmin(met))
    return float(met[edge]), edge


def _join(ring: Polygon, hole: Polygon, column: float, edge: int) -> Polygon:
    """Go along a ring to an edge, over to the hole's end, around the hole, and back."""
    start = np.array(_end(hole))
    first = int(np.flatnonzero((hole == start).all(axis=1))[0])
    gate = np.array([[start[0], column]])
    around = np.roll(hole, -first, axis=0)
    return np.concatenate(
        [ring[: edge + 1], gate, around, start[np.newaxis], gate, ring[edge + 1 :]]
    )
