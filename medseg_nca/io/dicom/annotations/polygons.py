"""Which voxel centres lie in the polygons of one slice: even-odd rule, exact, all at once.

skimage and matplotlib test each point of one polygon against all its edges, and differ on points
that lie on an edge; here the work grows with the contour's length, and holes need no order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# In voxels: a centre so near to a contour lies on it, whatever the rounding of its numbers says.
ON_CONTOUR = 1e-3
# Crossings of edges with grid lines that are held at once.
_BATCH = 2**20


def contour_mask(
    contours: Sequence[NDArray[np.float64]], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Fill closed contours.

    A voxel is inside if a ray from its centre crosses the contours an odd number of times: a
    contour within another one is a hole (XOR), and so is the inner part of a keyhole. A centre on
    a contour, outer or hole, is inside.

    Args:
        contours: each ``(n, 2)``, voxel coordinates (x, y): the centre of voxel (i, j) is at
            (i, j). The last point is joined to the first.
        shape: voxels along x and y.

    Returns:
        ``(x, y)`` bool.
    """
    crossings = np.zeros((shape[0] + 1, shape[1]), np.int32)
    on = np.zeros(shape, bool)
    for contour in contours:
        start, stop = contour, np.roll(contour, -1, axis=0)
        for x, row in _crossings(start[:, ::-1], stop[:, ::-1], shape[1], 0.0):
            first = np.clip(np.ceil(x), 0, shape[0]).astype(np.int64)
            np.add.at(crossings, (first, row), 1)
        _mark(on, start, stop)
        _mark(on.T, start[:, ::-1], stop[:, ::-1])
    inside: NDArray[np.bool_] = (np.cumsum(crossings[:-1], axis=0) % 2).astype(bool)
    return inside | on


def _mark(on: NDArray[np.bool_], start: NDArray[np.float64], stop: NDArray[np.float64]) -> None:
    """Mark the centres that edges pass, where the edges cross the lines x = 0, 1, 2, ..."""
    for y, x in _crossings(start, stop, on.shape[0], ON_CONTOUR):
        near = np.rint(y)
        hit = (np.abs(y - near) <= ON_CONTOUR) & (near >= 0) & (near < on.shape[1])
        on[x[hit], near[hit].astype(np.int64)] = True


def _crossings(
    start: NDArray[np.float64], stop: NDArray[np.float64], count: int, reach: float
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Where edges cross the lines at which their first coordinate is 0, 1, ..., count - 1.

    Without reach an edge has its lower end and lacks its upper one, so that a corner on a line
    counts once; with reach it has both and a little more.

    Yields:
        The second coordinate and the line of each crossing, in batches.
    """
    low, high = np.minimum(start[:, 0], stop[:, 0]), np.maximum(start[:, 0], stop[:, 0])
    first = np.clip(np.ceil(low - reach), 0, count).astype(np.int64)
    last = np.floor(high + reach) + 1 if reach else np.ceil(high)
    lines = np.clip(np.clip(last, 0, count).astype(np.int64) - first, 0, None)
    ends = np.cumsum(lines)
    for begin in range(0, int(ends[-1]) if len(ends) else 0, _BATCH):
        number = np.arange(begin, min(begin + _BATCH, int(ends[-1])))
        edge = np.searchsorted(ends, number, side="right")
        line = first[edge] + number - (ends[edge] - lines[edge])
        run = stop[edge, 0] - start[edge, 0]
        part = np.divide(line - start[edge, 0], run, out=np.zeros(len(edge)), where=run != 0)
        part = np.clip(part, 0, 1)
        yield start[edge, 1] + part * (stop[edge, 1] - start[edge, 1]), line
