"""The padded grid that the compiled loops work on.

Arrays are flat and channels-last. A grid is stored with three axes, ``(B, n0, n1, n2)``; a 2-D
grid has ``n1 = 1``. Each axis is padded by the radius of perception, so that every neighbour of a
cell is at a fixed distance in memory. Channels are padded with zeros to whole vectors.
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

from medseg_nca.nca.border import border_index
from medseg_nca.nca.kernels.library import GridRecord, library, zeros

# A grid is cut along its first axis into at most this many slabs, the units of work. Their number
# depends on the grid alone, so that sums over slabs, and with them the gradients, do not depend on
# the number of threads.
_SLABS = 16


class GridLayout(NamedTuple):
    """A grid, and what the Python code needs to know of it.

    Attributes:
        grid: the grid as the compiled loops take it. Offsets and strides are in elements;
            ``cells`` counts the cells of one sample. ``jobs`` has a row for each slab of each
            sample: first element and first cell of the sample, begin and end of the slab on n0.
            First come the even slabs, then the odd ones. Two even slabs, or two odd ones, share no
            neighbour.
            The halo cells ``halo_to`` are copies of the cells ``halo_from``; the rows of job j are
            ``halo_first[j]`` to ``halo_first[j + 1]``.
        shape: shape of a padded state, ``(B, *padded, channels)``.
        inner: slices that select the true cells, without the halo, from a padded state.
        halo: indices of the halo cells and of the cells that they copy, ``(2, n)``, counted over
            the whole batch.
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
        """Return the true cells and channels of a padded array, ``(B, C, *spatial)``; a view."""
        inside = flat.view(self.shape)[self.inner][..., :channels].movedim(-1, 1)
        return inside.squeeze(3) if dims == 2 else inside


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple of ``multiple`` that is at least ``value``."""
    return -(-value // multiple) * multiple


@lru_cache(maxsize=16)
def make_layout(
    batch: int, spatial: tuple[int, ...], radius: int, padding: str, channels: int
) -> GridLayout:
    """Lay out the grids of a batch.

    Args:
        batch: number of samples.
        spatial: cells per axis, 2 or 3 axes.
        radius: how far a cell sees, in cells.
        padding: how the border is padded, as in ``PerceptionSettings.padding``.
        channels: number of channels after padding (:func:`padded_channels`).
    """
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
    """Return where each slab of axis 0 begins, and where the last slab ends.

    Every slab of a long enough axis is at least twice ``radius`` thick.
    """
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
    """Return a row for each halo cell: its offset, and offset and axis-0 index of its source."""
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
    """Return a tensor of zeros whose memory begins at a cache line.

    numpy has no bfloat16, so its memory is asked for as 16-bit integers.
    """
    kind = np.dtype("int16" if dtype == torch.bfloat16 else str(dtype).removeprefix("torch."))
    # The memory is used again later, and a tensor that was made in inference mode could then not be
    # written.
    with torch.inference_mode(False):
        tensor = torch.from_numpy(zeros(prod(shape), kind)).view(*shape)
        return tensor.view(dtype) if dtype == torch.bfloat16 else tensor


def numbers(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return the flat memory of a contiguous tensor, as the compiled loops take it; a view."""
    tensor = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    array: np.ndarray[Any, Any] = tensor.view(-1).numpy()
    return array


def moment_count(hidden: int) -> int:
    """Return how many numbers hold the moments of a batch norm over ``hidden`` units.

    They are the number of cells, then for each unit the mean, then for each unit the sum of squared
    deviations from it.
    """
    return 1 + 2 * hidden


def padded_channels(channels: int, dtype: torch.dtype) -> int:
    """Return ``channels`` rounded up to whole vectors of this ``dtype``."""
    return round_up(channels, library().lanes(dtype))
