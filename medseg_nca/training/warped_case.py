"""A training case in memory, read through a warp at every resolution that a level looks at."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medseg_nca.models.geometry import shrink
from medseg_nca.transforms.warp import Warp

Scale = tuple[int, ...]
# Voxels of the image by which its intensities are known.
_REFERENCE = 2048


class WarpedCase(ABC):
    """An image and what is to be learned of it.

    Args:
        image: ``(C, *S)`` float32.

    Attributes:
        image: as a tensor.
        shape: ``(*S)``.
        reference: some voxels ``(C, n)``, the darkest and the brightest of each channel among them.
    """

    def __init__(self, image: NDArray[np.float32]) -> None:
        self.image = torch.from_numpy(image)
        self.shape = tuple(image.shape[1:])
        self._images: dict[Scale, Tensor] = {(1,) * len(self.shape): self.image}
        self.reference = _reference(self.image)

    @property
    def nbytes(self) -> int:
        """The memory that the case takes by now, in bytes."""
        return sum(tensor.nbytes for tensor in self._images.values())

    @abstractmethod
    def voxel(self, chance: random.Random) -> Scale | None:
        """Draw a voxel that is worth learning from; None if the case has none."""

    @abstractmethod
    def target(self, warp: Warp, starts: Scale, cells: Scale, scale: Scale) -> Tensor:
        """Return what a level is to say of each cell, ``(K, *cells)``.

        The arguments are those of :meth:`view`.
        """

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
            return gathered(self._image_at(scale), whole, outside=None)
        return mixed(self._image_at, warp, starts, cells, scale, "border")

    def _image_at(self, scale: Scale) -> Tensor:
        if scale not in self._images:
            self._images[scale] = coarser(scale, self.image, "replicate")
        return self._images[scale]


def coarser(scale: Scale, image: Tensor, mode: str) -> Tensor:
    """Average an image over cells; at its end, cells that are cut off are padded.

    The average is always taken of voxels, as inference does, and never of another scale that may
    be in memory, so that a sample does not depend on what was read before.
    """
    missing = [-n % s for n, s in zip(image.shape[1:], scale, strict=True)]
    if any(missing):
        image = F.pad(image[None], [v for m in reversed(missing) for v in (0, m)], mode)[0]
    return shrink(image[None], scale)[0].contiguous()


def halved(scale: Scale) -> Scale:
    """Cells half as large along each axis where that is possible, else voxels."""
    return tuple(s // 2 if s % 2 == 0 else 1 for s in scale)


def mixed(
    source_at: Callable[[Scale], Tensor],
    warp: Warp, starts: Scale, cells: Scale, scale: Scale,
    padding: str,
) -> Tensor:  # fmt: skip
    """Return cells as means of values that are interpolated between cells half as large."""
    half = halved(scale)
    parts = tuple(s // h for s, h in zip(scale, half, strict=True))
    first = [a * p for a, p in zip(starts, parts, strict=True)]
    count = [n * p for n, p in zip(cells, parts, strict=True)]
    found = between(source_at(half), warp.points(first, count, half), half, padding)
    return shrink(found[None], parts)[0]


def gathered(
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


def between(source: Tensor, points: Tensor, scale: Scale, padding: str) -> Tensor:
    """Interpolate cells ``(C, *S)`` linearly at points ``(*cells, dims)``, given in voxels."""
    extent = torch.tensor([n * s for n, s in zip(source.shape[1:], scale, strict=True)])
    grid = (points * (2 / extent) - 1).flip(-1)
    found: Tensor = F.grid_sample(
        source[None], grid[None], padding_mode=padding, align_corners=False
    )[0]
    return found


def _reference(image: Tensor) -> Tensor:
    flat = image.flatten(1)
    chance = torch.Generator().manual_seed(0)
    drawn = flat[:, torch.randint(flat.shape[1], (_REFERENCE,), generator=chance)]
    return torch.cat((drawn, flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)), 1)
