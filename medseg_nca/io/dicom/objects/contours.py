"""Outlines of a mask in one plane, as polygons without holes (PS3.3 C.8.8.6.3).

CLOSED_PLANAR contours have no notion of a hole; the standard's way is the keyhole: the outline runs
along a narrow channel into the hole, around it and back. Readers that unite the contours of a plane
and readers that combine them by XOR both get the same region from that. The channels run between
the rows of voxel centres, so no centre lies on a channel.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    joins form no circle, and are made from the holes that end first.
    """
    if not holes:
        return outer
    rings = [*outer, *holes]
    gates = _gates(rings, [_end(hole) for hole in holes])
    whole: dict[int, Polygon] = {}
    for number in sorted(range(len(holes)), key=lambda n: _end(holes[n])):
        index = len(outer) + number
        whole[index] = _joined(rings[index], gates.get(index, []), whole)
    return [_joined(ring, gates.get(index, []), whole) for index, ring in enumerate(outer)]


@dataclass(frozen=True)
class _Gate:
    """Where the line from a hole meets an edge of a ring: between points ``edge`` and the next."""

    edge: int
    along: float
    point: tuple[float, float]
    hole: int
    end: tuple[float, float]


def _gates(rings: list[Polygon], ends: list[tuple[float, float]]) -> dict[int, list[_Gate]]:
    """Find the gate of every hole; by ring, in the order in which a walk around it meets them."""
    start = np.concatenate(rings)
    stop = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    owner = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    first = np.concatenate([[0], np.cumsum([len(ring) for ring in rings])])
    found: dict[int, list[_Gate]] = {}
    at_row: dict[float, list[int]] = {}
    for number, (row, _) in enumerate(ends):
        at_row.setdefault(row, []).append(number)
    for row, numbers in at_row.items():
        low, high = np.minimum(start[:, 0], stop[:, 0]), np.maximum(start[:, 0], stop[:, 0])
        edges = np.flatnonzero((low <= row) & (row <= high) & (low != high))
        along = (row - start[edges, 0]) / (stop[edges, 0] - start[edges, 0])
        columns = start[edges, 1] + along * (stop[edges, 1] - start[edges, 1])
        order = np.argsort(columns, kind="stable")
        for number in numbers:
            place = np.searchsorted(columns[order], ends[number][1] + 1e-9, side="right")
            nearest = order[place]
            ring = int(owner[edges[nearest]])
            gate = _Gate(
                edge=int(edges[nearest] - first[ring]),
                along=float(along[nearest]),
                point=(row, float(columns[nearest])),
                hole=len(rings) - len(ends) + number,
                end=ends[number],
            )
            found.setdefault(ring, []).append(gate)
    for gates in found.values():
        gates.sort(key=lambda gate: (gate.edge, gate.along))
    return found


def _joined(ring: Polygon, gates: list[_Gate], whole: dict[int, Polygon]) -> Polygon:
    """Walk around a ring, and at each gate over to the hole, around it and back."""
    parts, done = [], 0
    for gate in gates:
        hole = whole[gate.hole]
        first = int(np.flatnonzero((hole == np.array(gate.end)).all(axis=1))[0])
        around = np.roll(hole, -first, axis=0)
        bridge = np.array([gate.point])
        parts += [ring[done : gate.edge + 1], bridge, around, around[:1], bridge]
        done = gate.edge + 1
    return np.concatenate([*parts, ring[done:]])


def _end(ring: Polygon) -> tuple[float, float]:
    """The point with the largest row, then column."""
    last = ring[np.lexsort((ring[:, 1], ring[:, 0]))[-1]]
    return float(last[0]), float(last[1])
