"""Bring the pixels of parallel planes onto the voxels of an image, by nearest neighbour.

A voxel of the image belongs to a segment if its centre lies in one of the segment's voxels. A
segment's voxel is its pixel, as thick as the planes are apart, without its upper faces. Nothing is
interpolated. On coinciding grids this is the identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.dicom.annotations.packed import PackedMask

# Positions are written with a few digits. In voxels: what lies so near to a face lies on it.
_ON_FACE = 1e-3
# Grids whose voxels are nowhere further apart than this count as one.
_SAME_GRID = 0.1


@dataclass(frozen=True)
class PlaneGrid:
    """Parallel planes of pixels, at any distances; all vectors are RAS mm.

    Attributes:
        column_step: from a pixel to the one in the next column.
        row_step: from a pixel to the one in the next row.
        normal: unit vector across the planes.
        origins: ``(n, 3)`` centres of the first pixel of each plane, along the normal.
        shape: rows, columns.
        thickness: how thick a plane is, mm.
    """

    column_step: NDArray[np.float64]
    row_step: NDArray[np.float64]
    normal: NDArray[np.float64]
    origins: NDArray[np.float64]
    shape: tuple[int, int]
    thickness: float

    @property
    def distances(self) -> NDArray[np.float64]:
        """Where each plane lies along the normal, mm, ascending."""
        result: NDArray[np.float64] = self.origins @ self.normal
        return result

    def difference(self, affine: NDArray[np.float64]) -> str | None:
        """Say how these pixels lie otherwise than the voxels of an image, or None.

        Args:
            affine: of the image, index to RAS mm.
        """
        to_index = np.linalg.inv(affine)
        steps = to_index[:3, :3] @ np.column_stack(
            [self.column_step, self.row_step, self.normal * self.thickness]
        )
        size = np.linalg.norm(affine[:3, :3] @ np.abs(np.rint(steps)), axis=0)
        drift = np.abs(steps - np.rint(steps)) * [self.shape[1], self.shape[0], 1]
        one_to_one = (np.abs(np.rint(steps)).sum(axis=0) == 1).all()
        if not one_to_one or not size.all() or drift.max() > _SAME_GRID:
            lengths = np.linalg.norm(self.row_step), np.linalg.norm(self.column_step)
            return "its voxels have {:.4g} x {:.4g} x {:.4g} mm or other directions".format(
                *lengths, self.thickness
            )
        index = self.origins @ to_index[:3, :3].T + to_index[:3, 3]
        shift = np.abs(index - np.rint(index)).max()
        return f"it is shifted by {shift:.2f} voxels" if shift > _SAME_GRID else None

    def place(
        self, frames: Mapping[int, PackedMask], affine: NDArray[np.float64], shape: tuple[int, ...]
    ) -> tuple[PackedMask, int]:
        """Return a mask on the grid of an image, and how many of its pixels lie beyond the image.

        Args:
            frames: masks ``(rows, columns)`` by the number of their plane.
            affine: of the image, index to RAS mm.
            shape: of the image, three axes.
        """
        used = sorted(plane for plane, frame in frames.items() if frame.voxels)
        if not used:
            return PackedMask.pack(np.zeros((0, 0, 0), bool)), 0
        first = np.min([frames[plane].start for plane in used], axis=0)
        last = np.max([np.add(frames[p].start, frames[p].size) for p in used], axis=0)
        block = np.zeros((len(used), *(last - first)), bool)
        for index, plane in enumerate(used):
            frame = frames[plane]
            row, column = np.subtract(frame.start, first)
            block[index, row : row + frame.size[0], column : column + frame.size[1]] = frame.part()
        origins = self.origins[used] + first[0] * self.row_step + first[1] * self.column_step
        return _Block(self, block, origins).sample(affine, shape)


@dataclass(frozen=True)
class _Block:
    """The part of some planes that holds a segment: ``pixels`` is (planes, rows, columns)."""

    grid: PlaneGrid
    pixels: NDArray[np.bool_]
    origins: NDArray[np.float64]

    def sample(self, affine: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[PackedMask, int]:
        low, high = self._extent(affine)
        start, stop = np.maximum(low, 0), np.minimum(high, shape)
        inside = bool((low >= 0).all() and (high <= shape).all())
        lost = 0 if inside else self._outside(affine, shape)
        if (start >= stop).any():
            return PackedMask.pack(np.zeros((0, 0, 0), bool)), lost
        mask = np.zeros(stop - start, bool)
        for index, z in enumerate(range(start[2], stop[2])):
            mask[:, :, index] = self._slab(affine, start, stop, z)
        return PackedMask.pack(mask, tuple(int(v) for v in start)), lost

    def _extent(self, affine: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The voxels of the image, half-open, that can touch the block."""
        _, rows, columns = self.pixels.shape
        grid, half = self.grid, self.grid.thickness / 2
        corners = [
            row * grid.row_step + column * grid.column_step + across * grid.normal
            for row, column, across in product(
                (-0.5, rows - 0.5), (-0.5, columns - 0.5), (-half, half)
            )
        ]
        points = (self.origins[:, None] + np.array(corners)).reshape(-1, 3)
        index = _to_index(points, affine)
        low = np.floor(index.min(axis=0)).astype(np.int64)
        return low, np.ceil(index.max(axis=0)).astype(np.int64) + 1

    def _slab(
        self,
        affine: NDArray[np.float64],
        start: NDArray[np.int64],
        stop: NDArray[np.int64],
        z: int,
    ) -> NDArray[np.bool_]:
        """One slice of the image, ``(x, y)`` of the region."""
        to_pixel = self._to_pixel()
        linear = to_pixel @ affine[:3, :3]
        at_zero = to_pixel @ (affine[:3, 3] - self.origins[0]) + linear[:, 2] * z
        x, y = np.arange(start[0], stop[0])[:, None], np.arange(start[1], stop[1])
        column, row, across = (
            _along(linear[i, 0], x) + _along(linear[i, 1], y) + at_zero[i] for i in range(3)
        )
        offsets = (self.origins - self.origins[0]) @ to_pixel.T
        plane, hit = self._nearest(offsets[:, 2], across)
        rows, columns = self.pixels.shape[1:]
        row = np.floor(row - offsets[plane, 1] + 0.5 + _ON_FACE).astype(np.int64)
        column = np.floor(column - offsets[plane, 0] + 0.5 + _ON_FACE).astype(np.int64)
        hit = hit & (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        found = self.pixels[plane, np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
        result: NDArray[np.bool_] = hit & found
        return result

    def _nearest(
        self, distances: NDArray[np.float64], across: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The plane nearest to each distance, and whether it is thick enough to reach it."""
        face = _ON_FACE * self.grid.thickness
        between = (distances[1:] + distances[:-1]) / 2 - face
        plane = np.searchsorted(between, across, side="right")
        away = across - distances[plane]
        half = self.grid.thickness / 2
        return plane, (away >= -half - face) & (away < half - face)

    def _outside(self, affine: NDArray[np.float64], shape: tuple[int, ...]) -> int:
        """How many pixels of the segment have their centres outside the image."""
        _, rows, columns = self.pixels.shape
        row, column = np.arange(rows)[:, None], np.arange(columns)
        ends = np.ix_([0, rows - 1], [0, columns - 1])
        linear = (
            np.linalg.inv(affine)[:3, :3] @ np.array([self.grid.row_step, self.grid.column_step]).T
        )
        count = 0
        for pixels, at_zero in zip(self.pixels, _to_index(self.origins, affine), strict=True):
            within = np.ones((1, 1), bool)
            for i in range(3):
                index = _along(linear[i, 0], row) + _along(linear[i, 1], column) + at_zero[i]
                within = within & (index > -0.5 - _ON_FACE) & (index < shape[i] - 0.5 + _ON_FACE)
            within = np.broadcast_to(within, pixels.shape)
            if not within[ends].all():  # a plane within the image at its corners is so everywhere
                count += int(np.count_nonzero(pixels & ~within))
        return count

    def _to_pixel(self) -> NDArray[np.float64]:
        """RAS mm to columns, rows and mm along the normal."""
        grid = self.grid
        result: NDArray[np.float64] = np.linalg.inv(
            np.column_stack([grid.column_step, grid.row_step, grid.normal])
        )
        return result


def _to_index(points: NDArray[np.float64], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    to_index = np.linalg.inv(affine)
    result: NDArray[np.float64] = points @ to_index[:3, :3].T + to_index[:3, 3]
    return result


def _along(step: float, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """``step * numbers``; a single 0 where that is nothing, which keeps aligned grids cheap."""
    small = abs(step) * max(abs(int(numbers.flat[0])), abs(int(numbers.flat[-1]))) < _ON_FACE / 2
    return np.zeros((1,) * numbers.ndim) if small else numbers.astype(np.float64) * step
