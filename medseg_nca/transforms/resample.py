"""From one grid to another with parallel axes, slab by slab.

It goes one axis after the other. So it needs room for a slab of the result, where MONAI's way
through a grid of sampling points needs that of many images; the interpolated values are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

# How many values of the result, all channels, are computed at a time.
SLAB = 1 << 22
# Axes count as parallel if none strays by more than this, in voxels.
_STRAYS = 1e-3
# Where a label is decided, places are moved by these fractions of a voxel along the axes, so that
# none lies halfway between two voxels. The fractions differ, so that no place on a diagonal edge
# lies halfway either.
_TIES = (1e-3, 1.3e-3, 1.7e-3)
# Between this weight and 1 minus it, the volume of a label decides which voxels are foreground.
_DOUBT = 0.25


@dataclass(frozen=True)
class Mapping:
    """Where the voxels of a new grid lie on an old one: ``step * index + offset`` on each axis.

    Attributes:
        step: from one new voxel to the next, in old voxels, ``(dims,)``.
        offset: of the first new voxel, ``(dims,)``.
        shape: of the new grid.
    """

    step: tuple[float, ...]
    offset: tuple[float, ...]
    shape: tuple[int, ...]

    @classmethod
    def between(
        cls, old: NDArray[np.float64], new: NDArray[np.float64], shape: Sequence[int]
    ) -> Mapping:
        """From the affines (4x4) of the grid that is read and of that of ``shape``.

        Raises:
            ValueError: if the axes of the grids are not parallel.
        """
        dims = len(shape)
        change = np.linalg.solve(_square(old, dims), _square(new, dims)).astype(np.float64)
        step = np.diag(change)[:dims]
        beside = change[:dims, :dims] - np.diag(step)
        if (np.abs(beside) * np.array(shape)).max() >= _STRAYS:
            raise ValueError(f"the axes of the grids are not parallel: {change[:dims, :dims]}")
        return cls(tuple(step.tolist()), tuple(change[:dims, dims].tolist()), tuple(shape))

    def beside_ties(self) -> Mapping:
        """The mapping for values that decide on labels: no place lies halfway between two voxels.

        An object loses on one side what it gains on the other.
        """
        offset = tuple(o + tie for o, tie in zip(self.offset, _TIES, strict=False))
        return replace(self, offset=offset)

    def places(self, axis: int, size: int) -> NDArray[np.float64]:
        """Where the new voxels of an axis lie among ``size`` old ones; beyond the border, on it."""
        index = np.arange(self.shape[axis])
        return np.clip(self.offset[axis] + self.step[axis] * index, 0, size - 1)

    def coverage(self, axis: int, size: int) -> NDArray[np.float64]:
        """How many new voxels lie in each of ``size`` old ones; border voxels go on for ever."""
        ends = self.offset[axis] + self.step[axis] * np.array([-0.5, self.shape[axis] - 0.5])
        borders = np.clip(np.arange(size + 1) - 0.5, ends.min(), ends.max())
        borders[[0, -1]] = ends.min(), ends.max()
        covered: NDArray[np.float64] = np.diff(borders) / abs(self.step[axis])
        return covered

    def part(self, part: slice) -> Mapping:
        """The mapping to a slab of the first axis."""
        offset = self.offset[0] + self.step[0] * part.start
        return replace(
            self,
            offset=(offset, *self.offset[1:]),
            shape=(part.stop - part.start, *self.shape[1:]),
        )


def slabs(
    array: NDArray[Any], mapping: Mapping, room: int = SLAB
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Interpolate linearly, and yield the new values slab by slab of the first spatial axis.

    Args:
        array: ``(C, *S)``, any kind of numbers.
        mapping: to its grid; beyond the border its values go on.
        room: about how many values of the result, all channels, are computed at a time; it changes
            the memory that is needed and no value.

    Yields:
        Which part of the first axis, and its values, float32 ``(C, part, *rest)``.
    """
    for part in _parts(array, mapping, room):
        yield part, _interpolate(array, mapping.part(part))


def resample(array: NDArray[Any], mapping: Mapping, room: int = SLAB) -> NDArray[np.float32]:
    """All of the new values, float32 ``(C, *shape)``; see :func:`slabs`."""
    result = np.empty((array.shape[0], *mapping.shape), np.float32)
    for part, values in slabs(array, mapping, room):
        result[:, part] = values
    return result


def resample_labels(
    array: NDArray[np.uint8], mapping: Mapping, room: int = SLAB
) -> NDArray[np.uint8]:
    """Bring label maps to another grid so that volumes stay, and labels that touch still touch.

    Each label is interpolated linearly. A voxel is foreground if all labels together have enough of
    its weight, and takes the label with most: so no background opens where labels meet. Half of the
    weight would be enough for a flat border, but shrink what is round; enough is what gives the
    foreground the volume that it had (:func:`_threshold`).

    Args:
        array: ``(C, *S)``; each channel is a label map of its own, 0 is the background.
        mapping: to its grid; beyond the border its labels go on.
        room: about how many values are computed at a time; it changes no label.

    Returns:
        ``(C, *shape)``.
    """
    mapping = mapping.beside_ties()
    return np.stack([_resample_label(channel, mapping, room) for channel in array])


def _resample_label(labels: NDArray[np.uint8], mapping: Mapping, room: int) -> NDArray[np.uint8]:
    """One label map, ``(*S)`` to ``(*shape)``."""
    result = np.zeros(mapping.shape, np.uint8)
    total = np.zeros(mapping.shape, np.float32)
    for part in _parts(labels[None], mapping, room):
        # Only the labels near a slab are looked for in it.
        cut = mapping.part(part)
        places = cut.places(0, labels.shape[0])
        low, high = int(places.min()), int(places.max()) + 2
        near, best = labels[None, low:high], np.zeros(cut.shape, np.float32)
        cut = replace(cut, offset=(cut.offset[0] - low, *cut.offset[1:]))
        for value in np.unique(near[near > 0]):
            weight = _interpolate(near == value, cut)[0]
            result[part][weight > best] = value
            np.maximum(best, weight, out=best)
            total[part] += weight
    result[total < _threshold(total, _foreground(labels, mapping))] = 0
    return result


def _foreground(labels: NDArray[np.uint8], mapping: Mapping) -> float:
    """How many new voxels the foreground fills, in the part of space that they share."""
    rows, *others = (mapping.coverage(axis, size) for axis, size in enumerate(labels.shape))
    found = 0.0
    for row, part in zip(rows, labels, strict=True):
        filled: Any = part != 0
        for cover in reversed(others):
            filled = filled @ cover
        found += row * float(filled)
    return found


def _threshold(weights: NDArray[np.float32], count: float) -> float:
    """The weight from which on voxels are foreground, so that there are ``count`` of them.

    It lies between :data:`_DOUBT` and 1 minus that, even if ``count`` is then missed: an object
    that is too small for the grid is not drawn larger than it is.
    """
    doubtful = weights[(weights > _DOUBT) & (weights < 1 - _DOUBT)]
    wanted = round(count) - np.count_nonzero(weights >= 1 - _DOUBT)
    if wanted <= 0:
        return 1 - _DOUBT
    if wanted >= doubtful.size:
        return _DOUBT
    last = doubtful.size - wanted
    threshold = np.partition(doubtful, last)[last]
    # A whole face of voxels may have this weight: all are taken or none, by what comes nearer.
    more = np.count_nonzero(doubtful >= threshold) - wanted
    fewer = wanted - np.count_nonzero(doubtful > threshold)
    return float(threshold if more <= fewer else np.nextafter(threshold, np.float32(1)))


def _parts(array: NDArray[Any], mapping: Mapping, room: int) -> Iterator[slice]:
    """Slabs of the first axis of the new grid, of about ``room`` values."""
    row = array.shape[0] * max(prod(mapping.shape[1:]), prod(array.shape[2:]))
    thickness = max(room // row, 1)
    for start in range(0, mapping.shape[0], thickness):
        yield slice(start, min(start + thickness, mapping.shape[0]))


def _square(affine: NDArray[np.float64], dims: int) -> NDArray[np.float64]:
    """The affine of the first axes: a 2D image lies in their plane."""
    square = np.eye(dims + 1)
    square[:dims, :dims], square[:dims, dims] = affine[:dims, :dims], affine[:dims, 3]
    return square


def _interpolate(array: NDArray[Any], mapping: Mapping) -> NDArray[np.float32]:
    values = array
    for axis, size in enumerate(array.shape[1:]):
        place = mapping.places(axis, size)
        low = np.floor(place).astype(np.intp)
        values = _blend(values, axis + 1, low, (place - low).astype(np.float32))
    return values


def _blend(
    array: NDArray[Any], axis: int, low: NDArray[np.intp], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Interpolate along an axis: from the voxels ``low`` by ``weight`` towards the next ones."""
    near = array.take(low, axis).astype(np.float32, copy=False)
    if not weight.any():
        return near
    high = np.minimum(low + 1, array.shape[axis] - 1)
    far = array.take(high, axis).astype(np.float32, copy=False)
    far -= near
    far *= weight.reshape(-1, *(1,) * (array.ndim - 1 - axis))
    near += far
    return near
