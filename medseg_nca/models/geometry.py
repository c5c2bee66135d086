"""Levels: scales per axis, average pooling, nearest enlargement, and patches inside patches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg_nca.config.bounds import MAX_CELL_VOXELS
from medseg_nca.config.model import LevelSettings, PerAxis
from medseg_nca.errors import ConfigError
from medseg_nca.nca.window import cut

# With at least this many channels, copying all channels of a cell together is faster.
_MANY_CHANNELS = 8
# This many voxels are averaged at a time, to bound the memory.
AVERAGED_VOXELS = 1 << 21

Starts = tuple[tuple[int, ...], ...]


def per_axis(value: PerAxis, dims: int, name: str) -> tuple[int, ...]:
    """Return one number for each axis: the given number for all, or the given numbers.

    Raises:
        ConfigError: if there are several numbers, but not one for each axis.
    """
    values = (value,) * dims if isinstance(value, int) else tuple(value)
    if len(values) != dims:
        raise ConfigError(f"{name} {value} has {len(values)} values for a model of {dims} axes.")
    return values


def level_scales(levels: Sequence[LevelSettings], dims: int) -> list[tuple[int, ...]]:
    """Return the scale per axis of each level.

    Raises:
        ConfigError: if the scale of a level does not divide that of the level before, is the same,
            or makes cells larger than any image.
    """
    scales = [per_axis(level.scale, dims, "scale") for level in levels]
    for coarse, fine in pairwise(scales):
        if any(c % f for c, f in zip(coarse, fine, strict=True)):
            raise ConfigError(
                f"Levels run from coarse to fine and each scale divides the one before: "
                f"{coarse} is not a multiple of {fine}."
            )
    for scale in scales:
        if prod(scale) > MAX_CELL_VOXELS:
            raise ConfigError(
                f"levels: a cell of the scale {scale} covers more than {MAX_CELL_VOXELS:,} voxels.",
                hint="Leave out the coarsest levels.",
            )
    return scales


def pad_to_multiple(image: Tensor, multiple: tuple[int, ...]) -> Tensor:
    """Pad ``(B, C, *spatial)`` to a multiple, by repeating the last cells of each axis."""
    for axis, factor in enumerate(multiple, start=2):
        missing = -image.shape[axis] % factor
        if missing:
            last = image.narrow(axis, image.shape[axis] - 1, 1)
            repeat = [missing if a == axis else 1 for a in range(image.ndim)]
            image = torch.cat((image, last.repeat(repeat)), axis)
    return image


def shrink(image: Tensor, scale: Sequence[int], how: str = "mean") -> Tensor:
    """Make a cell of each block of ``scale`` voxels of ``(B, C, *spatial)``.

    Args:
        image: its sizes are multiples of the scale.
        scale: size of a cell in voxels, per axis.
        how: the setting ``shrink`` of the model.
    """
    if all(s == 1 for s in scale):
        return image
    if how in {"first", "middle"}:
        return _sampled(image, scale, how == "middle")
    if how == "max":
        largest = F.max_pool2d if len(scale) == 2 else F.max_pool3d
        return largest(image, tuple(scale), tuple(scale))
    pool = F.avg_pool2d if len(scale) == 2 else F.avg_pool3d
    return pool(image, tuple(scale), tuple(scale))


def _sampled(image: Tensor, scale: Sequence[int], middle: bool) -> Tensor:
    """Take one voxel of each cell, or the mean of the two in the middle, axis by axis."""
    for axis, step in enumerate(scale, start=2):
        first = step // 2 if middle else 0
        places = torch.arange(first, image.shape[axis], step, device=image.device)
        taken = image.index_select(axis, places)
        if middle and step % 2 == 0:
            taken = (taken + image.index_select(axis, places - 1)) / 2
        image = taken
    return image


def level_view(
    image: Tensor, scale: Sequence[int], window: Sequence[slice], how: str = "mean"
) -> Tensor:
    """Return a window of the image as a level sees it: one value for the voxels in each cell.

    Beyond the end of the image the last voxels of an axis are repeated. The image is shrunk slab
    by slab, so that there is never a second copy of it.

    Args:
        image: ``(B, C, *spatial)``.
        scale: size of a cell in voxels, per axis.
        window: the cells per axis.
        how: the setting ``shrink`` of the model.
    """
    if all(s == 1 for s in scale):
        return _repeated(image, window)
    plane = prod((b.stop - b.start) * s for b, s in zip(window[1:], scale[1:], strict=True))
    rows = max(AVERAGED_VOXELS // (plane * scale[0]), 1)
    parts = []
    for start in range(window[0].start, window[0].stop, rows):
        slab = (slice(start, min(start + rows, window[0].stop)), *window[1:])
        voxels = [slice(b.start * s, b.stop * s) for b, s in zip(slab, scale, strict=True)]
        parts.append(shrink(_repeated(image, voxels), scale, how))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _repeated(image: Tensor, window: Sequence[slice]) -> Tensor:
    """Cut a window out of an image; beyond its end the last voxels of an axis are repeated."""
    sizes = image.shape[2:]
    image = cut(
        image,
        (slice(min(b.start, n - 1), min(b.stop, n)) for b, n in zip(window, sizes, strict=True)),
    )
    for axis, (b, n) in enumerate(zip(window, sizes, strict=True), start=2):
        if b.stop > n:
            first = min(b.start, n - 1)
            places = torch.arange(b.start, b.stop, device=image.device).clamp(max=n - 1) - first
            image = image.index_select(axis, places)
    return image


def enlarge(x: Tensor, factor: Sequence[int]) -> Tensor:
    """Repeat every cell of ``(B, C, *spatial)`` ``factor`` times along each axis.

    The result is channels-last in memory if there are many channels, so that a cell is copied as a
    whole.
    """
    if all(f == 1 for f in factor):
        return x
    if x.shape[1] < _MANY_CHANNELS:
        return F.interpolate(x, scale_factor=tuple(float(f) for f in factor), mode="nearest")
    cells = x.movedim(1, -1)
    batch, *sizes, channels = cells.shape
    split = [v for n in sizes for v in (n, 1)]
    repeated = [v for n, f in zip(sizes, factor, strict=True) for v in (n, f)]
    cells = cells.reshape(batch, *split, channels).expand(batch, *repeated, channels)
    larger = [n * f for n, f in zip(sizes, factor, strict=True)]
    return cells.reshape(batch, *larger, channels).movedim(-1, 1)


def crop(x: Tensor, starts: Starts, size: Sequence[int]) -> Tensor:
    """Cut parts of ``size`` out of the samples of ``(B, C, *spatial)``, each at its own start.

    Every sample has the same number of starts, and those of one sample follow each other.
    """
    times = len(starts) // x.shape[0]
    if all(n == s for n, s in zip(x.shape[2:], size, strict=True)):
        return x.repeat_interleave(times, 0) if times > 1 else x
    parts = []
    for index, start in enumerate(starts):
        window = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        parts.append(x[index // times][(slice(None), *window)])
    return torch.stack(parts)


@dataclass(frozen=True)
class Region:
    """Parts of a level's grid, one for each sample: their first cells, and their common size."""

    starts: Starts
    size: tuple[int, ...]

    def finer(self, factor: Sequence[int]) -> Region:
        """Return the same parts on a grid that is ``factor`` times finer."""
        starts = tuple(
            tuple(a * f for a, f in zip(start, factor, strict=True)) for start in self.starts
        )
        return Region(starts, tuple(n * f for n, f in zip(self.size, factor, strict=True)))

    def patch(
        self,
        size: Sequence[int],
        focus: Sequence[Sequence[int] | None],
        rng: random.Random,
    ) -> Region:
        """Draw a patch inside each part, of at most ``size`` cells per axis.

        Args:
            size: cells per axis.
            focus: for each part a cell that the patch must hold; None leaves it to chance.
            rng: draws where the patches lie.
        """
        fitted = tuple(min(p, n) for p, n in zip(size, self.size, strict=True))
        starts = []
        for start, point in zip(self.starts, focus, strict=True):
            corner = []
            for axis, (first, length, part) in enumerate(
                zip(start, self.size, fitted, strict=True)
            ):
                low, high = first, first + length - part
                if point is not None:
                    low = min(max(low, point[axis] - part + 1), high)
                    high = max(min(high, point[axis]), low)
                corner.append(rng.randint(low, high))
            starts.append(tuple(corner))
        return Region(tuple(starts), fitted)
