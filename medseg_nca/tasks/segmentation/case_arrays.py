"""One training case in memory, at every scale that the levels of a model use."""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.models.geometry import shrink
from medseg_nca.tasks.segmentation.targets import shares
from medseg_nca.training.warped_case import Scale, WarpedCase, coarser, gathered, halved, mixed
from medseg_nca.transforms.warp import Warp

# Voxels of each label to centre patches on.
_POINTS = 4096
# Labels of so many voxels are looked at one by one; of more, averages are kept and read.
FEW_VOXELS = 2**16


class CaseArrays(WarpedCase):
    """An image and its labels, from which views and targets are read through a warp.

    Args:
        image: ``(C, *S)`` float32.
        label: uint8: channel numbers ``(1, *S)``, or with ``multi_label`` one binary channel for
            each label ``(L, *S)``.
        channels: number of channels of a target.
        multi_label: whether labels may overlap.
        few_voxels: a target of at most so many voxels counts its labels voxel by voxel; a larger
            one reads averages, which are computed once and kept.
    """

    def __init__(
        self,
        image: NDArray[np.float32],
        label: NDArray[np.uint8],
        channels: int,
        multi_label: bool,
        few_voxels: int = FEW_VOXELS,
    ) -> None:
        super().__init__(image)
        self.label = torch.from_numpy(label)
        self.channels, self.multi_label = channels, multi_label
        self.few_voxels = few_voxels
        self._shares: dict[Scale, Tensor] = {}
        self._points = [found for mask in self._masks() if len(found := _some_of(mask))]

    @property
    def nbytes(self) -> int:
        """What is kept of the case by now, in bytes."""
        labels = sum(tensor.nbytes for tensor in (self.label, *self._shares.values()))
        return super().nbytes + labels + sum(points.nbytes for points in self._points)

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

    def target(self, warp: Warp, starts: Scale, cells: Scale, scale: Scale) -> Tensor:
        """Return the share of each channel in each cell, ``(K, *cells)`` in [0, 1].

        Beyond the image all is background. The arguments are those of :meth:`view`.
        """
        # Shares at full resolution would be as many numbers as there are voxels, for each label.
        if prod(halved(scale)) == 1 or prod(cells) * prod(scale) <= self.few_voxels:
            return self._counted(warp, starts, cells, scale)
        whole = warp.cells(starts, cells, scale)
        if whole is not None:
            return self._with_background(gathered(self._shares_at(scale), whole, outside=0.0))
        return self._with_background(mixed(self._shares_at, warp, starts, cells, scale, "zeros"))

    def _counted(self, warp: Warp, starts: Scale, cells: Scale, scale: Scale) -> Tensor:
        """Return the shares ``(K, *cells)`` by counting the labels of the voxels in each cell."""
        first = tuple(a * s for a, s in zip(starts, scale, strict=True))
        voxels = tuple(n * s for n, s in zip(cells, scale, strict=True))
        one = (1,) * len(scale)
        whole = warp.cells(first, voxels, one)
        if whole is not None:
            label = gathered(self.label, whole, outside=0)
        else:
            label = _nearest(self.label, warp.points(first, voxels, one))
        if self.multi_label:
            return shrink(label.float()[None], scale)[0]
        return shares(label[0], scale, self.channels)

    def _shares_at(self, scale: Scale) -> Tensor:
        """Return the shares of the labels, without the background, ``(L, *cells)``."""
        if scale not in self._shares:
            self._shares[scale] = torch.cat([
                coarser(scale, torch.from_numpy(mask[None]).float(), "constant")
                for mask in self._masks()
            ])  # fmt: skip
        return self._shares[scale]

    def _with_background(self, found: Tensor) -> Tensor:
        if self.multi_label:
            return found
        return torch.cat((1 - found.sum(0, keepdim=True), found))


def _nearest(source: Tensor, points: Tensor) -> Tensor:
    """Return the voxels of ``(L, *S)`` in which points ``(*cells, dims)`` lie; 0 outside."""
    index = torch.zeros(points.shape[:-1], dtype=torch.int64)
    inside = torch.ones(points.shape[:-1], dtype=torch.bool)
    for axis, size in enumerate(source.shape[1:]):
        along = points[..., axis].floor().long()
        inside &= (along >= 0) & (along < size)
        index = index * size + along.clamp(0, size - 1)
    return source.flatten(1)[:, index] * inside


def _some_of(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the flat indices of voxels of a mask: all, or some thousand drawn evenly."""
    flat = np.flatnonzero(mask)
    if len(flat) > _POINTS:
        flat = np.sort(np.random.default_rng(0).choice(flat, _POINTS, replace=False))
    return flat
