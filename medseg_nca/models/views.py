"""Views: what the levels of a model see in training, the whole image or patches of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from medseg_nca.models.geometry import Region, crop, pad_to_multiple, shrink

Point = tuple[int, ...]


@dataclass(frozen=True)
class ViewSpec:
    """What one level sees of a training sample.

    Attributes:
        scale: size of a cell in voxels, per axis.
        patch: size in cells of a patch inside the view of the level before; None takes the whole
            view.
        patches: how many patches are drawn inside each view of the level before.
    """

    scale: tuple[int, ...]
    patch: tuple[int, ...] | None = None
    patches: int = 1


class View(NamedTuple):
    """The image as one level sees it, for each of ``N`` views of a batch.

    It is a tuple, because Fabric looks for tensors inside tuples when several processes train.

    Attributes:
        image: ``(N, in_channels, *cells)``.
        starts: index of the first cell of each view on the grid of its level, ``(N, dims)``.
    """

    image: Tensor
    starts: Tensor

    @property
    def region(self) -> Region:
        """The parts of the level's grid that the views show."""
        return Region(tuple(tuple(s) for s in self.starts.tolist()), tuple(self.image.shape[2:]))


def draw_regions(
    specs: Sequence[ViewSpec],
    size: Sequence[int],
    focus: Sequence[Point | None],
    rng: random.Random,
) -> list[Region]:
    """Draw the views of one sample, level by level.

    Args:
        specs: one for each level, coarse to fine; the first has no patch.
        size: voxels of the sample per axis.
        focus: a voxel that the patches hold, for each patch of the first level that has patches;
            None leaves that patch to chance.
        rng: draws what is left to chance.

    Returns:
        For each level the regions of its views, in cells. Views that lie inside the same view of
        the level before follow each other.
    """
    scale = specs[0].scale
    region = Region(
        ((0,) * len(size),), tuple(-(-n // s) for n, s in zip(size, scale, strict=True))
    )
    points: list[Point | None] = [None]
    regions = []
    for spec in specs:
        factor = tuple(c // f for c, f in zip(scale, spec.scale, strict=True))
        region, scale = region.finer(factor), spec.scale
        if spec.patch is not None:
            points = _points(points, focus, spec.patches)
            starts = tuple(start for start in region.starts for _ in range(spec.patches))
            cells = [None if p is None else _cell(p, scale) for p in points]
            region = Region(starts, region.size).patch(spec.patch, cells, rng)
        regions.append(region)
    return regions


def _points(
    before: list[Point | None], focus: Sequence[Point | None], times: int
) -> list[Point | None]:
    """Return the focus of each patch: a patch takes the focus of the patch that it lies in."""
    if len(before) == 1 and before[0] is None and len(focus) == times:
        return list(focus)
    return [point for point in before for _ in range(times)]


def _cell(voxel: Point, scale: tuple[int, ...]) -> list[int]:
    return [v // s for v, s in zip(voxel, scale, strict=True)]


def first_patches(specs: Sequence[ViewSpec]) -> int:
    """Return how many patches of a sample the first level with patches sees; 0 if none has any."""
    return next((spec.patches for spec in specs if spec.patch is not None), 0)


def cut_views(
    image: Tensor,
    specs: Sequence[ViewSpec],
    seed: int,
    focus: Sequence[Point | None] | None = None,
) -> list[View]:
    """Cut the views of all levels out of whole images, without augmentation.

    Args:
        image: ``(B, C, *spatial)``; beyond its end the last voxels are repeated.
        specs: what the levels ask for (:attr:`SegmentationModel.views`).
        seed: decides where patches lie.
        focus: for each image a voxel that all its patches hold; None leaves it to chance.
    """
    rng = random.Random(seed)
    padded = pad_to_multiple(image, specs[0].scale)
    size = padded.shape[2:]
    points = focus or [None] * len(image)
    each = [
        draw_regions(specs, size, [point] * max(first_patches(specs), 1), rng) for point in points
    ]
    views = []
    for level, spec in enumerate(specs):
        regions = [drawn[level] for drawn in each]
        starts = tuple(start for region in regions for start in region.starts)
        voxels = Region(starts, regions[0].size).finer(spec.scale)
        cells = shrink(crop(padded, voxels.starts, voxels.size), spec.scale)
        views.append(View(cells, torch.tensor(starts)))
    return views
