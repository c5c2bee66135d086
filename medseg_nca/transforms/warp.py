"""Random changes of space: where the voxels of a training sample come from.

A level of a model looks at a part of the sample, at its own resolution. So no changed image is ever
made: each level reads what it looks at from the unchanged one. Coordinates count voxels from the
corner of the first one, whose centre is 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms.utils import create_rotate, create_scale, create_shear
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medseg_nca.config.data import AugmentSettings
from medseg_nca.errors import ConfigError

Matrix = NDArray[np.float64]
# Beyond this ratio of voxel sizes a turn would mix a few slices with many voxels in the plane.
_ANISOTROPIC = 2.0


@dataclass(frozen=True)
class Warp:
    """Maps coordinates of a sample to those of its source: ``matrix (x - middle) + offset``.

    Attributes:
        size: of the sample in voxels.
        matrix: ``(dims, dims)``.
        offset: coordinates in the source of the sample's middle.
        bend: shifts in voxels ``(dims, *control points)`` that are spread over the sample.
    """

    size: tuple[int, ...]
    matrix: Matrix
    offset: Matrix
    bend: Tensor | None = None

    @property
    def middle(self) -> Matrix:
        """Coordinates of the middle of the sample."""
        return np.array(self.size) / 2

    def axes(self) -> list[tuple[int, int]] | None:
        """For each axis of the sample the source's axis and +1 or -1; None if voxels are mixed."""
        whole = np.round(self.matrix)
        if self.bend is not None or not np.array_equal(whole, self.matrix):
            return None
        if not np.array_equal(np.abs(whole) @ np.abs(whole).T, np.eye(len(whole))):
            return None
        sources = np.abs(whole).argmax(0)
        return [(int(p), int(whole[p, a])) for a, p in enumerate(sources)]

    def cells(
        self, starts: Sequence[int], cells: Sequence[int], scale: Sequence[int]
    ) -> list[tuple[int, NDArray[np.int64]]] | None:
        """Return which whole cells of the source a part of the sample consists of.

        Args:
            starts: first cell of the part.
            cells: their number, per axis.
            scale: size of a cell in voxels.

        Returns:
            For each axis of the sample the axis of the source and the index of each cell on it,
            which may lie outside; None if the sample's cells are no whole cells of the source.
        """
        axes = self.axes()
        if axes is None:
            return None
        found = []
        for axis, (source, sign) in enumerate(axes):
            if scale[axis] != scale[source]:
                return None
            zero = self.offset[source] - sign * self.middle[axis]
            first, rest = divmod(zero, scale[axis])
            if rest:
                return None
            index = np.arange(starts[axis], starts[axis] + cells[axis])
            found.append((source, int(first) + (index if sign > 0 else -1 - index)))
        return found

    def points(
        self,
        starts: Sequence[int],
        cells: Sequence[int],
        scale: Sequence[float],
    ) -> Tensor:
        """Return the source's coordinates of the centres of cells, ``(*cells, dims)``."""
        centres = [
            torch.arange(first, first + n, dtype=torch.float32).add_(0.5).mul_(s)
            for first, n, s in zip(starts, cells, scale, strict=True)
        ]
        matrix = torch.tensor(self.matrix, dtype=torch.float32)
        origin = torch.tensor(self.offset - self.matrix @ self.middle, dtype=torch.float32)
        # The sum of one column for each axis is less work than a product of all points.
        result = origin
        for axis, values in enumerate(centres):
            column = values[:, None] * matrix[:, axis]
            result = result + column.reshape(
                *(-1 if a == axis else 1 for a in range(len(cells))), len(cells)
            )
        if self.bend is not None:
            result = result + self._shifts(centres)
        return result

    def _shifts(self, centres: Sequence[Tensor]) -> Tensor:
        assert self.bend is not None
        grids = torch.meshgrid(
            *(2 * c / n - 1 for c, n in zip(centres, self.size, strict=True)), indexing="ij"
        )
        where = torch.stack(grids[::-1], -1)
        found = F.grid_sample(
            self.bend[None], where[None], padding_mode="border", align_corners=True
        )
        return found[0].movedim(0, -1)

    def voxel(self, source: Sequence[int]) -> tuple[int, ...] | None:
        """Return the voxel of the sample that shows a voxel of the source, or None if none does.

        The bend is left out of account: it moves things by little.
        """
        back = np.linalg.solve(self.matrix, np.array(source) + 0.5 - self.offset) + self.middle
        voxel = np.floor(back + 1e-9).astype(int)
        inside = all(0 <= v < n for v, n in zip(voxel, self.size, strict=True))
        return tuple(int(v) for v in voxel) if inside else None


def draw_warp(
    settings: AugmentSettings,
    size: Sequence[int],
    start: Sequence[int],
    spacing: Sequence[float],
    rng: np.random.Generator,
) -> Warp:
    """Draw the change of space of one sample.

    Args:
        settings: chances and ranges.
        size: of the sample in voxels.
        start: the source's voxel where the unchanged sample begins; may lie outside.
        spacing: mm per axis; turns are rigid in mm. Voxels that are much longer along one axis are
            turned around that axis only: any other turn would mix slices.
        rng: decides.
    """
    dims = len(size)
    matrix, bend = np.eye(dims), None
    if settings.enabled:
        matrix = _flips(settings, dims, rng) @ _quarters(settings, size, rng)
        if rng.random() < settings.affine_p:
            matrix = matrix @ _affine(settings, spacing, rng)
        if rng.random() < settings.elastic_p:
            bend = _bend(settings, size, rng)
    return Warp(tuple(size), matrix, np.array(start) + np.array(size) / 2, bend)


def check_flips(settings: AugmentSettings, dims: int) -> None:
    """Refuse to flip an axis that does not exist.

    Raises:
        ConfigError: if there is one.
    """
    wrong = [axis for axis in settings.flip_axes if not 0 <= axis < dims]
    if wrong:
        raise ConfigError(
            f"augment.flip_axes: there is no axis {wrong[0]} in {dims}D, only 0 to {dims - 1}."
        )


def _flips(settings: AugmentSettings, dims: int, rng: np.random.Generator) -> Matrix:
    signs = np.ones(dims)
    for axis in settings.flip_axes:
        signs[axis] = -1 if rng.random() < settings.flip_p else 1
    return np.diag(signs)


def _quarters(settings: AugmentSettings, size: Sequence[int], rng: np.random.Generator) -> Matrix:
    """Quarter turns in the first two axes, where these are equally long: the size must stay."""
    matrix = np.eye(len(size))
    if settings.rotate90 and size[0] == size[1] and rng.random() < 0.5:
        turn = np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), int(rng.integers(1, 4)))
        matrix[:2, :2] = turn
    return matrix


def _affine(
    settings: AugmentSettings, spacing: Sequence[float], rng: np.random.Generator
) -> Matrix:
    """Turn, shear and scale; rigid in mm, returned in voxels."""
    dims = len(spacing)
    angle, shear = np.deg2rad(settings.rotate), np.tan(np.deg2rad(settings.shear))
    angles = rng.uniform(-angle, angle, 1 if dims == 2 else 3).tolist()
    if dims == 3:
        coarse = [axis for axis, s in enumerate(spacing) if s > _ANISOTROPIC * min(spacing)]
        turned = [axis for axis in range(3) if not coarse or axis in coarse]
        angles = [angles[axis] if axis in turned else 0.0 for axis in range(3)]
    smallest, largest = settings.scale
    # What is looked up is scaled, so an object grows by the inverse.
    factors = rng.uniform(1 / largest, 1 / smallest, dims).tolist()
    shears = rng.uniform(-shear, shear, dims * (dims - 1)).tolist()
    steps = (create_rotate(dims, angles), create_shear(dims, shears), create_scale(dims, factors))
    turn, slant, grow = (np.asarray(step)[:dims, :dims] for step in steps)
    voxel = np.diag(spacing)
    return np.asarray(np.linalg.inv(voxel) @ turn @ slant @ grow @ voxel)


def _bend(settings: AugmentSettings, size: Sequence[int], rng: np.random.Generator) -> Tensor:
    """Shifts as large as white noise of ``elastic_magnitude`` has after a Gaussian of that sigma.

    They are drawn every two sigma and spread linearly.
    """
    sigma = settings.elastic_sigma
    points = [max(2, round(n / (2 * sigma)) + 1) for n in size]
    left = (2 * np.sqrt(np.pi) * sigma) ** (-len(size) / 2) / np.sqrt(3)
    sd = rng.uniform(0, settings.elastic_magnitude) * left
    return torch.from_numpy(rng.normal(0, sd, (len(size), *points)).astype(np.float32))
