"""The padded grid that the compiled loops work on.

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

from medseg_nca.nca.kernels.library import GridRecord, library, zeros
from medseg_nca.nca.perception import border_index

# Slabs of a grid are the units of work. How many there are depends on the grid alone, so that sums
# over slabs, and with them the gradients, do not depend on the number of threads.
_SLABS = 16


class GridLayout(NamedTuple):
    """A grid, and what the Python code needs to know of it.

    Attributes:
        grid: for the compiled loops; offsets and strides are in elements, ``cells`` those of a
            sample. ``jobs`` has a row ``(first element, positions, n0 begin, n0 end)`` for each
            slab of each sample, first the even slabs, then the odd ones; two slabs of one kind
            share no neighbour. Halo cells are copies of the cells ``halo_from``; those of job j lie
            between ``halo_first[j]`` and ``halo_first[j + 1]``.
        shape: of a padded state, ``(B, *padded, channels)``.
        inner: where the true cells lie in it.
        halo: cells of the halo and the cells that they copy, ``(2, n)``, numbered over the batch.
        cells: number of true cells of the batch.
        even_jobs: how many slabs are even.
        jobs: how many slabs there are.
    """

    grid: GridRecord
    shape: tuple[int, ...]
    inner: tuple[slice, ...]
    halo: Tensor
    cells: int
    even_jobs: int
    jobs: int

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
) -> GridLayout:
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
    halo_to, halo_from = np.concatenate(to), np.concatenate(source)
    grid = GridRecord(
        channels=channels, cells=prod(sizes), n1=sizes[1], n2=sizes[2],
        stride0=strides[0], stride1=strides[1], job_count=len(jobs), taps=len(offsets), jobs=jobs,
        offsets=np.array(offsets, np.int64), halo_to=halo_to, halo_from=halo_from,
        halo_first=np.array(starts, np.int64),
    )  # fmt: skip
    return GridLayout(
        grid,
        shape=(batch, *padded, channels),
        inner=(slice(None), *(slice(w, w + n) for w, n in zip(widths, sizes, strict=True))),
        halo=torch.from_numpy(np.stack([halo_to, halo_from]) // channels),
        cells=batch * prod(sizes),
        even_jobs=sum(1 for _, index in slab_of_job if index % 2 == 0),
        jobs=len(jobs),
    )


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


def aligned(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Zeros that begin at a cache line; numpy has no bfloat16, there they are 16-bit integers."""
    kind = np.dtype("int16" if dtype == torch.bfloat16 else str(dtype).removeprefix("torch."))
    # Memory that was made in inference mode could not be written outside of it, when it is reused.
    with torch.inference_mode(False):
        tensor = torch.from_numpy(zeros(prod(shape), kind)).view(*shape)
        return tensor.view(dtype) if dtype == torch.bfloat16 else tensor


def numbers(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The flat memory of a contiguous tensor, for the compiled loops."""
    tensor = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    array: np.ndarray[Any, Any] = tensor.view(-1).numpy()
    return array


def moment_count(hidden: int) -> int:
    """How many numbers describe the hidden values of many cells; see ``src/moments.hpp``."""
    return 1 + 2 * hidden


def padded_channels(channels: int, dtype: torch.dtype) -> int:
    """``channels`` rounded up to whole vectors."""
    return round_up(channels, library().lanes(dtype))
