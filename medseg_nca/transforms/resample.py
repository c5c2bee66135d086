"""Linear interpolation from one grid to another, slab by slab.

Where the axes of the grids are parallel it goes one axis after the other. So it needs room for a
slab of the result, where MONAI's way through a grid of sampling points needs that of many images;
the values are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Values of a slab of the result, all channels.
SLAB = 1 << 22
# Axes count as parallel if none strays by more than this, in voxels.
_STRAYS = 1e-3


@dataclass(frozen=True)
class Mapping:
    """Where the voxels of a new grid lie on an old one: ``matrix @ index + offset``.

    Attributes:
        matrix: ``(dims, dims)``.
        offset: of the first voxel, ``(dims,)``.
        shape: of the new grid.
    """

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    shape: tuple[int, ...]

    @classmethod
    def between(
        cls, old: NDArray[np.float64], new: NDArray[np.float64], shape: Sequence[int]
    ) -> Mapping:
        """From the affines (4x4) of the grid that is read and of that of ``shape``."""
        dims = len(shape)
        change = np.linalg.solve(_square(old, dims), _square(new, dims)).astype(np.float64)
        return cls(change[:dims, :dims], change[:dims, dims], tuple(shape))

    @property
    def parallel(self) -> bool:
        """Whether the axes of one grid are those of the other."""
        beside = self.matrix - np.diag(np.diag(self.matrix))
        return bool((np.abs(beside) * np.array(self.shape)).max() < _STRAYS)


def slabs(array: NDArray[Any], mapping: Mapping) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield the new values, slab by slab of the first spatial axis.

    Args:
        array: ``(C, *S)``, any kind of numbers.
        mapping: to its grid; beyond the border its values go on.

    Yields:
        Which part of the first axis, and its values, float32 ``(C, part, *rest)``.
    """
    row = array.shape[0] * max(prod(mapping.shape[1:]), prod(array.shape[2:]))
    thickness = max(SLAB // row, 1)
    for start in range(0, mapping.shape[0], thickness):
        part = slice(start, min(start + thickness, mapping.shape[0]))
        yield part, (_separable if mapping.parallel else _general)(array, mapping, part)


def resample(array: NDArray[Any], mapping: Mapping) -> NDArray[np.float32]:
    """All of the new values, float32 ``(C, *shape)``; see :func:`slabs`."""
    result = np.empty((array.shape[0], *mapping.shape), np.float32)
    for part, values in slabs(array, mapping):
        result[:, part] = values
    return result


def _square(affine: NDArray[np.float64], dims: int) -> NDArray[np.float64]:
    """The affine of the first axes: a 2D image lies in their plane."""
    square = np.eye(dims + 1)
    square[:dims, :dims], square[:dims, dims] = affine[:dims, :dims], affine[:dims, 3]
    return square


def _separable(array: NDArray[Any], mapping: Mapping, part: slice) -> NDArray[np.float32]:
    values = array
    for axis, (size, count) in enumerate(zip(array.shape[1:], mapping.shape, strict=True)):
        index = np.arange(part.start, part.stop) if axis == 0 else np.arange(count)
        place = np.clip(mapping.offset[axis] + mapping.matrix[axis, axis] * index, 0, size - 1)
        low = np.floor(place).astype(np.intp)
        values = _blend(values, axis + 1, low, (place - low).astype(np.float32))
    return values


def _general(array: NDArray[Any], mapping: Mapping, part: slice) -> NDArray[np.float32]:
    """For grids that are sheared against each other."""
    from scipy.ndimage import affine_transform

    shape = (part.stop - part.start, *mapping.shape[1:])
    offset = mapping.offset + mapping.matrix[:, 0] * part.start
    values = [
        affine_transform(channel, mapping.matrix, offset, shape, np.float32, 1, "nearest")
        for channel in array
    ]
    return np.stack(values)


def _blend(
    array: NDArray[Any], axis: int, low: NDArray[np.intp], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Between the voxels ``low`` of an axis and the next ones, of which ``weight`` is taken."""
    near = array.take(low, axis).astype(np.float32, copy=False)
    if not weight.any():
        return near
    high = np.minimum(low + 1, array.shape[axis] - 1)
    far = array.take(high, axis).astype(np.float32, copy=False)
    far -= near
    far *= weight.reshape(-1, *(1,) * (array.ndim - 1 - axis))
    near += far
    return near
