"""One training case in memory, at every scale that the levels of a model use."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medseg_nca.models.geometry import shrink
from medseg_nca.tasks.segmentation.targets import shares
from medseg_nca.transforms.warp import Warp

Scale = tuple[int, ...]
# How many voxels are kept to describe the intensities of the image, and how many of each label on
# which patches can be centred.
_REFERENCE, _POINTS = 2048, 4096
# In targets of up to this many voxels each voxel's label is counted; larger targets are read from
# shares that were averaged over cells before.
_FEW_VOXELS = 2**16


class CaseArrays:
    """An image and its labels, from which views and targets of a changed image are read.

    Args:
        image: ``(C, *S)`` float32.
        label: uint8: channel numbers ``(1, *S)``, or with ``multi_label`` one binary channel for
            each label ``(L, *S)``.
        channels: number of channels of a target.
        multi_label: whether labels may overlap.
    """

    def __init__(
        self,
        image: NDArray[np.float32],
        label: NDArray[np.uint8],
        channels: int,
        multi_label: bool,
    ) -> None:
        self.image = torch.from_numpy(image)
        self.label = torch.from_numpy(label)
        self.channels, self.multi_label = channels, multi_label
        self.shape = tuple(image.shape[1:])
        self._images: dict[Scale, Tensor] = {(1,) * len(self.shape): self.image}
        self._shares: dict[Scale, Tensor] = {}
        self.reference = _reference(self.image)
        self._points = [found for mask in self._masks() if len(found := _some_of(mask))]

    @property
    def nbytes(self) -> int:
        """The memory that the case takes by now, in bytes."""
        tensors = (self.label, *self._images.values(), *self._shares.values())
        return sum(t.nbytes for t in tensors) + sum(points.nbytes for points in self._points)

    def voxel(self, chance: random.Random) -> Scale | None:
        """Draw a voxel of a label, each label with the same chance; None if there is no label."""
        if not self._points:
            return None
        points = self._points[chance.randrange(len(self._points))]
        place = np.unravel_index(points[chance.randrange(len(points))], self.shape)
        return tuple(int(v) for v in place)

    def _masks(self) -> Iterator[NDArray[np.bool_]]:
        """Yield a mask for each label; the background has none."""
        label = self.label.numpy()
        if self.multi_label:
            yield from (channel > 0 for channel in label)
        else:
            yield from (label[0] == value for value in range(1, self.channels))

    def view(self, warp: Warp, starts: Scale, cells: Scale, scale: Scale) -> Tensor:
        """Return what a level sees of the warped image, ``(C, *cells)``.

        If the warp moves cells by whole cells, they are copied. Else a cell is the mean of several
        interpolated values, half a cell apart, which is nearly what inference would see.

        Args:
            warp: the change of space.
            starts: first cell of the view on the level's grid, per axis.
            cells: number of cells per axis.
            scale: size of a cell in voxels, per axis.
        """
        whole = warp.cells(starts, cells, scale)
        if whole is not None:
            return _gather(self._image_at(scale), whole, outside=None)
        return _mixed(self._image_at, warp, starts, cells, scale, "border")

    def target(self, warp: Warp, starts: Scale, cells: Scale, scale: Scale) -> Tensor:
        """Return the share of each channel in each cell, ``(K, *cells)`` in [0, 1].

        Beyond the image all is background. The arguments are those of :meth:`view`.
        """
        # Shares at full resolution would take a number for each voxel and label.
        if prod(_halved(scale)) == 1 or prod(cells) * prod(scale) <= _FEW_VOXELS:
            return self._counted(warp, starts, cells, scale)
        whole = warp.cells(starts, cells, scale)
        if whole is not None:
            return self._with_background(_gather(self._shares_at(scale), whole, outside=0.0))
        return self._with_background(_mixed(self._shares_at, warp, starts, cells, scale, "zeros"))

    def _counted(self, warp: Warp, starts: Scale, cells: Scale, scale: Scale) -> Tensor:
        """Return the shares ``(K, *cells)`` by counting the labels of the voxels in each cell."""
        first = tuple(a * s for a, s in zip(starts, scale, strict=True))
        voxels = tuple(n * s for n, s in zip(cells, scale, strict=True))
        one = (1,) * len(scale)
        whole = warp.cells(first, voxels, one)
        if whole is not None:
            label = _gather(self.label, whole, outside=0)
        else:
            label = _nearest(self.label, warp.points(first, voxels, one))
        if self.multi_label:
            return shrink(label.float()[None], scale)[0]
        return shares(label[0], scale, self.channels)

    def _image_at(self, scale: Scale) -> Tensor:
        if scale not in self._images:
            self._images[scale] = _coarser(scale, self.image, "replicate")
        return self._images[scale]

    def _shares_at(self, scale: Scale) -> Tensor:
        """Return the shares of the labels, without the background, ``(L, *cells)``."""
        if scale not in self._shares:
            self._shares[scale] = torch.cat([
                _coarser(scale, torch.from_numpy(mask[None]).float(), "constant")
                for mask in self._masks()
            ])  # fmt: skip
        return self._shares[scale]

    def _with_background(self, found: Tensor) -> Tensor:
        if self.multi_label:
            return found
        return torch.cat((1 - found.sum(0, keepdim=True), found))


def _coarser(scale: Scale, image: Tensor, mode: str) -> Tensor:
    """Average an image over cells; at its end, cells that are cut off are padded.

    The average is always taken of voxels, as inference does, and never of another scale that may
    be in memory, so that a sample does not depend on what was read before.
    """
    missing = [-n % s for n, s in zip(image.shape[1:], scale, strict=True)]
    if any(missing):
        image = F.pad(image[None], [v for m in reversed(missing) for v in (0, m)], mode)[0]
    return shrink(image[None], scale)[0].contiguous()


def _halved(scale: Scale) -> Scale:
    return tuple(s // 2 if s % 2 == 0 else 1 for s in scale)


def _mixed(
    source_at: Callable[[Scale], Tensor],
    warp: Warp, starts: Scale, cells: Scale, scale: Scale,
    padding: str,
) -> Tensor:  # fmt: skip
    """Return cells as means of values that are interpolated between cells half as large."""
    half = _halved(scale)
    parts = tuple(s // h for s, h in zip(scale, half, strict=True))
    first = [a * p for a, p in zip(starts, parts, strict=True)]
    count = [n * p for n, p in zip(cells, parts, strict=True)]
    found = _between(source_at(half), warp.points(first, count, half), half, padding)
    return shrink(found[None], parts)[0]


def _gather(
    source: Tensor, whole: list[tuple[int, NDArray[np.int64]]], outside: float | None
) -> Tensor:
    """Take cells of ``(C, *S)`` by their indices along each axis.

    Beyond the border the cells at the border are repeated, or have the value ``outside`` if given.
    """
    for axis, index in whole:
        size = source.shape[axis + 1]
        first, last = int(index[0]), int(index[-1])
        if 0 <= first <= last < size:
            source = source.narrow(axis + 1, first, len(index))
            continue
        kept = torch.from_numpy(np.clip(index, 0, size - 1))
        source = source.index_select(axis + 1, kept)
        if outside is not None:
            beyond = torch.from_numpy(np.flatnonzero((index < 0) | (index >= size)))
            source = source.index_fill(axis + 1, beyond, outside)
    return source.permute(0, *(axis + 1 for axis, _ in whole)).contiguous()


def _between(source: Tensor, points: Tensor, scale: Scale, padding: str) -> Tensor:
    """Interpolate cells ``(C, *S)`` linearly at points ``(*cells, dims)``, given in voxels."""
    extent = torch.tensor([n * s for n, s in zip(source.shape[1:], scale, strict=True)])
    grid = (points * (2 / extent) - 1).flip(-1)
    found: Tensor = F.grid_sample(
        source[None], grid[None], padding_mode=padding, align_corners=False
    )[0]
    return found


def _nearest(source: Tensor, points: Tensor) -> Tensor:
    """Return the voxels of ``(L, *S)`` in which points ``(*cells, dims)`` lie; 0 outside."""
    index = torch.zeros(points.shape[:-1], dtype=torch.int64)
    inside = torch.ones(points.shape[:-1], dtype=torch.bool)
    for axis, size in enumerate(source.shape[1:]):
        along = points[..., axis].floor().long()
        inside &= (along >= 0) & (along < size)
        index = index * size + along.clamp(0, size - 1)
    return source.flatten(1)[:, index] * inside


def _reference(image: Tensor) -> Tensor:
    """Return voxels ``(C, n)`` drawn evenly, with the darkest and brightest of each channel."""
    flat = image.flatten(1)
    chance = torch.Generator().manual_seed(0)
    drawn = flat[:, torch.randint(flat.shape[1], (_REFERENCE,), generator=chance)]
    return torch.cat((drawn, flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)), 1)


def _some_of(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the flat indices of voxels of a mask: all, or some thousand drawn evenly."""
    flat = np.flatnonzero(mask)
    if len(flat) > _POINTS:
        flat = np.sort(np.random.default_rng(0).choice(flat, _POINTS, replace=False))
    return flat
