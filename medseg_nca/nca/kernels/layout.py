"""What the compiled loops work on: the padded grid, the packed weights, and scratch memory.

Everything is flat and channels-last. A grid of 2 or 3 axes is stored as three, ``(B, n0, n1, n2)``,
a plane having ``n1 = 1``; each axis is padded by the radius of perception, so that a neighbour is
always a fixed distance away. Channels are padded with zeros to whole vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from medseg_nca.nca.kernels.vectors import BLOCK, DENSE_ROWS, lanes
from medseg_nca.nca.perception import border_index

# Slabs of a grid are the units of work. How many there are depends on the grid alone, so that sums
# over slabs, and with them the gradients, do not depend on the number of threads.
_SLABS = 16
_LINE = 64  # bytes
# The last rows of a tile may reach past the end of a matrix.
SLACK = 2 * DENSE_ROWS


class Grid(NamedTuple):
    """Geometry for the compiled loops; offsets and strides are in elements, ``cells`` a sample.

    ``jobs`` has a row ``(first element, positions, n0 begin, n0 end)`` for each slab of each
    sample, first the even slabs, then the odd ones; two slabs of one kind share no neighbour. Halo
    cells are copies of the cells ``halo_from``; those of job j lie between ``halo_first[j]`` and
    ``halo_first[j + 1]``.
    """

    channels: int
    cells: int
    n1: int
    n2: int
    stride0: int
    stride1: int
    jobs: np.ndarray[Any, Any]
    offsets: np.ndarray[Any, Any]
    halo_to: np.ndarray[Any, Any]
    halo_from: np.ndarray[Any, Any]
    halo_first: np.ndarray[Any, Any]


class Layout(NamedTuple):
    """A grid and what the surrounding Python code needs to know of it."""

    grid: Grid
    shape: tuple[int, ...]
    inner: tuple[slice, ...]
    cells: int
    even_jobs: int

    def view(self, flat: Tensor, channels: int, dims: int) -> Tensor:
        """The true cells and channels of a flat padded array, ``(B, C, *spatial)``; no copy."""
        inside = flat.view(self.shape)[self.inner][..., :channels].movedim(-1, 1)
        return inside.squeeze(3) if dims == 2 else inside


def round_up(value: int, multiple: int) -> int:
    """The next multiple at or above ``value``."""
    return -(-value // multiple) * multiple


@lru_cache(maxsize=16)
def make_layout(
    batch: int, spatial: tuple[int, ...], radius: int, padding: str, channels: int
) -> Layout:
    """Lay out ``batch`` grids; ``channels`` is the padded number."""
    plane = len(spatial) == 2
    sizes = (spatial[0], 1, spatial[1]) if plane else spatial
    widths = (radius, 0 if plane else radius, radius)
    padded = [n + 2 * w for n, w in zip(sizes, widths, strict=True)]
    strides = [padded[1] * padded[2] * channels, padded[2] * channels, channels]
    whole = padded[0] * strides[0]
    first = sum(w * s for w, s in zip(widths, strides, strict=True))
    bounds = _slabs(sizes[0], radius)
    jobs, slab_of_job = _jobs(batch, bounds, whole, first, sizes)
    reach = [range(-w, w + 1) for w in widths]
    offsets = [sum(o * s for o, s in zip(tap, strides, strict=True)) for tap in product(*reach)]
    halo = (
        _halo(sizes, widths, padding, strides)
        if padding != "zero" and radius
        else np.empty((0, 3), np.int64)
    )
    slab = np.searchsorted(bounds, halo[:, 2], side="right") - 1
    to, source, starts = [], [], [0]
    for sample, index in slab_of_job:
        rows = halo[slab == index]
        to.append(rows[:, 0] + sample * whole)
        source.append(rows[:, 1] + sample * whole)
        starts.append(starts[-1] + len(rows))
    grid = Grid(
        channels, int(np.prod(sizes)), sizes[1], sizes[2], strides[0], strides[1], jobs,
        np.array(offsets, np.int64), np.concatenate(to), np.concatenate(source),
        np.array(starts, np.int64),
    )  # fmt: skip
    inner = (slice(None), *(slice(w, w + n) for w, n in zip(widths, sizes, strict=True)))
    even = sum(1 for _, index in slab_of_job if index % 2 == 0)
    return Layout(grid, (batch, *padded, channels), inner, batch * int(np.prod(sizes)), even)


def _slabs(size: int, radius: int) -> np.ndarray[Any, Any]:
    """Where the slabs of axis 0 begin, and its end; none is thinner than twice the reach."""
    thickness = max(2 * radius, -(-size // _SLABS), 1)
    count = max(1, size // thickness)
    return np.arange(count + 1, dtype=np.int64) * size // count


def _jobs(
    batch: int, bounds: np.ndarray[Any, Any], whole: int, first: int, sizes: Sequence[int]
) -> tuple[np.ndarray[Any, Any], list[tuple[int, int]]]:
    count = len(bounds) - 1
    order = [
        (sample, slab)
        for parity in (0, 1)
        for sample in range(batch)
        for slab in range(parity, count, 2)
    ]
    cells = int(np.prod(sizes))
    rows = [
        (sample * whole + first, sample * cells, bounds[slab], bounds[slab + 1])
        for sample, slab in order
    ]
    return np.array(rows, np.int64), order


def _halo(
    sizes: Sequence[int], widths: Sequence[int], padding: str, strides: Sequence[int]
) -> np.ndarray[Any, Any]:
    """Rows (offset of a halo cell, offset of the cell it copies, that one's index on axis 0)."""
    sources = [
        border_index(n, w, padding).numpy() if w else np.arange(n)
        for n, w in zip(sizes, widths, strict=True)
    ]
    outside = np.zeros([len(s) for s in sources], bool)
    for axis, (size, width) in enumerate(zip(sizes, widths, strict=True)):
        place = np.arange(len(sources[axis]))
        border = (place < width) | (place >= width + size)
        outside |= border.reshape([-1 if a == axis else 1 for a in range(3)])
    places = np.argwhere(outside)
    copied = np.stack([s[places[:, a]] for a, s in enumerate(sources)], -1)
    to = places @ np.array(strides)
    origin = (copied + np.array(widths)) @ np.array(strides)
    return np.stack([to, origin, copied[:, 0]], -1).astype(np.int64)


class Buffers(NamedTuple):
    """Scratch memory of one thread, for :data:`BLOCK` cells at a time.

    The last six are for batch norm: mean and squares of a block (and what standardises, backward),
    the moments of all cells, the first matrix with the norm in it, scale and shift of no norm.
    """

    bases: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any]
    patch: np.ndarray[Any, Any]
    hidden: np.ndarray[Any, Any]
    active: np.ndarray[Any, Any]
    change: np.ndarray[Any, Any]
    inverse: np.ndarray[Any, Any]
    health: np.ndarray[Any, Any]
    rows_grad: np.ndarray[Any, Any]
    patch_grad: np.ndarray[Any, Any]
    mean: np.ndarray[Any, Any]
    squares: np.ndarray[Any, Any]
    moments: np.ndarray[Any, Any]
    folded: np.ndarray[Any, Any]
    ones: np.ndarray[Any, Any]
    zeros: np.ndarray[Any, Any]


def flat(count: int, dtype: torch.dtype) -> np.ndarray[Any, Any]:
    """Zeros that begin at a cache line.

    numpy asks the operating system for large pages, torch does not; the states are large. It has
    no bfloat16: there the numbers are those of 16-bit integers.
    """
    kind = np.dtype("int16" if dtype == torch.bfloat16 else str(dtype).removeprefix("torch."))
    room = np.zeros(count + _LINE // kind.itemsize, kind)
    start = -room.ctypes.data % _LINE // kind.itemsize
    return room[start : start + count]


def aligned(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Zeros in memory of :func:`flat`."""
    tensor = torch.from_numpy(flat(prod(shape), dtype)).view(*shape)
    return tensor.view(dtype) if dtype == torch.bfloat16 else tensor


def numbers(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The flat memory of a contiguous tensor, for the compiled loops."""
    tensor = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    array: np.ndarray[Any, Any] = tensor.view(-1).numpy()
    return array


def make_buffers(
    grid: Grid, row: int, patch: int, hidden: int, dtype: torch.dtype, backward: bool, batch: bool
) -> Buffers:
    """Scratch for rows of ``row`` perceived values, ``patch`` gathered ones, ``hidden`` units."""
    width = BLOCK + SLACK
    later = width if backward else 0
    measured = hidden if batch else 0
    return Buffers(
        bases=np.zeros(BLOCK + grid.n2, np.int64),
        rows=flat(width * row, dtype),
        patch=flat(width * patch, dtype),
        hidden=flat(width * hidden, dtype),
        active=flat(width * hidden, dtype),
        change=flat(width * grid.channels, dtype),
        inverse=flat(width, dtype),
        health=flat(grid.channels, dtype),
        rows_grad=flat(later * row, dtype),
        patch_grad=flat(later * patch, dtype),
        mean=flat(measured, dtype),
        squares=flat(measured, dtype),
        moments=np.zeros(moment_count(measured)),
        folded=flat(measured * row, dtype),
        ones=flat(measured, dtype) + 1,
        zeros=flat(measured, dtype),
    )


def moment_count(hidden: int) -> int:
    """How many numbers describe the hidden values of many cells; see ``moments.py``."""
    return 1 + 2 * hidden


def padded_channels(channels: int, dtype: torch.dtype) -> int:
    """``channels`` rounded up to whole vectors."""
    return round_up(channels, lanes(dtype.itemsize))
