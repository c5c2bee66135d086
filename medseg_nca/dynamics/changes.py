"""Changes of an image whose effect on the right answer is known: turns, shifts, other spacing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medseg_nca.dynamics.subject import Array
from medseg_nca.io.volume import Volume

Window = tuple[slice, ...]
# The axes of the plane in which images are turned.
PLANE = (0, 1)
# The same axes of an array ``(C, *S)``.
_ARRAY_PLANE = (1, 2)


class ImageChange(ABC):
    """A change of an image, and the way back for the answer."""

    @property
    @abstractmethod
    def name(self) -> str:
        """How the results call the change."""

    @abstractmethod
    def apply(self, volume: Volume, *, smooth: bool = True) -> Volume:
        """Change a volume ``(C, *S)``; with ``smooth`` its values are interpolated, if need be."""

    @abstractmethod
    def back(self, answer: Array, shape: Sequence[int], *, smooth: bool) -> Array:
        """Bring an answer ``(K, *changed)`` back to the grid ``(K, *shape)`` of the source."""

    def window(self, shape: Sequence[int]) -> Window:
        """Return the part of the source grid that an answer which came back is known on."""
        return tuple(slice(0, n) for n in shape)


@dataclass(frozen=True)
class QuarterTurn(ImageChange):
    """A turn by 90 degrees in the plane, ``turns`` times; the content turns, not the header."""

    turns: int

    @property
    def name(self) -> str:
        """See :attr:`ImageChange.name`."""
        return f"turn by {90 * self.turns}"

    def apply(self, volume: Volume, *, smooth: bool = True) -> Volume:
        """See :meth:`ImageChange.apply`; the spacings of the axes change places with them."""
        turned = np.rot90(volume.array, self.turns, _ARRAY_PLANE)
        affine = volume.affine.copy()
        if self.turns % 2:
            a, b = (np.linalg.norm(affine[:3, axis]) for axis in PLANE)
            affine[:3, PLANE[0]] *= b / a
            affine[:3, PLANE[1]] *= a / b
        return Volume(np.ascontiguousarray(turned), affine, volume.sources, volume.header)

    def back(self, answer: Array, shape: Sequence[int], *, smooth: bool) -> Array:
        """See :meth:`ImageChange.back`."""
        return np.ascontiguousarray(np.rot90(answer, -self.turns, _ARRAY_PLANE))


@dataclass(frozen=True)
class Flip(ImageChange):
    """A mirror image along one axis."""

    axis: int

    @property
    def name(self) -> str:
        """See :attr:`ImageChange.name`."""
        return f"flip of axis {self.axis}"

    def apply(self, volume: Volume, *, smooth: bool = True) -> Volume:
        """See :meth:`ImageChange.apply`."""
        return volume.with_array(np.ascontiguousarray(np.flip(volume.array, self.axis + 1)))

    def back(self, answer: Array, shape: Sequence[int], *, smooth: bool) -> Array:
        """See :meth:`ImageChange.back`."""
        return np.ascontiguousarray(np.flip(answer, self.axis + 1))


@dataclass(frozen=True)
class SmallTurn(ImageChange):
    """A turn by any angle about the middle of the plane, by resampling, in millimetres.

    Args:
        degrees: the angle.
        spacing: of the two axes of the plane, in mm.
    """

    degrees: float
    spacing: tuple[float, float] = (1.0, 1.0)

    @property
    def name(self) -> str:
        """See :attr:`ImageChange.name`."""
        return f"turn by {self.degrees:g}"

    def apply(self, volume: Volume, *, smooth: bool = True) -> Volume:
        """See :meth:`ImageChange.apply`; beyond the border the nearest value goes on."""
        return volume.with_array(self._turned(volume.array, self.degrees, smooth, "nearest"))

    def back(self, answer: Array, shape: Sequence[int], *, smooth: bool) -> Array:
        """See :meth:`ImageChange.back`; beyond the border of an answer is background."""
        mode = "nearest" if smooth else "constant"
        return self._turned(answer, -self.degrees, smooth, mode)

    def _turned(self, array: Array, degrees: float, smooth: bool, mode: str) -> Array:
        angle = np.deg2rad(degrees)
        a, b = self.spacing
        matrix = np.eye(array.ndim)
        first, second = (axis + 1 for axis in PLANE)
        matrix[first, first] = matrix[second, second] = np.cos(angle)
        matrix[first, second] = -np.sin(angle) * b / a
        matrix[second, first] = np.sin(angle) * a / b
        middle = (np.array(array.shape) - 1) / 2
        source = array.astype(np.float32) if smooth else array
        found: Array = ndimage.affine_transform(
            source, matrix, middle - matrix @ middle, order=1 if smooth else 0, mode=mode
        )
        return found.astype(np.float32 if smooth else array.dtype)


@dataclass(frozen=True)
class Shift(ImageChange):
    """A shift by whole voxels along one axis; the border's values go on where nothing is known."""

    axis: int
    voxels: int

    @property
    def name(self) -> str:
        """See :attr:`ImageChange.name`."""
        return f"shift by {self.voxels} along axis {self.axis}"

    def apply(self, volume: Volume, *, smooth: bool = True) -> Volume:
        """See :meth:`ImageChange.apply`."""
        return volume.with_array(self._moved(volume.array, self.voxels))

    def back(self, answer: Array, shape: Sequence[int], *, smooth: bool) -> Array:
        """See :meth:`ImageChange.back`."""
        return self._moved(answer, -self.voxels)

    def window(self, shape: Sequence[int]) -> Window:
        """See :meth:`ImageChange.window`: what left the image at its end is not known."""
        kept = [slice(0, n) for n in shape]
        kept[self.axis] = slice(0, max(shape[self.axis] - self.voxels, 1))
        return tuple(kept)

    def _moved(self, array: Array, voxels: int) -> Array:
        length = array.shape[self.axis + 1]
        places = np.clip(np.arange(length) - voxels, 0, length - 1)
        found: Array = np.take(array, places, self.axis + 1)
        return found


@dataclass(frozen=True)
class Respacing(ImageChange):
    """Another number of voxels along every axis.

    Args:
        factor: times the number of voxels.
        told: whether the header tells the new spacing; if not, everything seems larger or smaller.
    """

    factor: float
    told: bool

    @property
    def name(self) -> str:
        """See :attr:`ImageChange.name`."""
        return f"{self.factor:g} times the voxels, {'told' if self.told else 'not told'}"

    def apply(self, volume: Volume, *, smooth: bool = True) -> Volume:
        """See :meth:`ImageChange.apply`."""
        shape = [max(1, round(n * self.factor)) for n in volume.shape]
        array = _resized(volume.array, shape, smooth)
        affine = volume.affine.copy()
        if self.told:
            for axis, (old, new) in enumerate(zip(volume.shape, shape, strict=True)):
                affine[:3, 3] += affine[:3, axis] * ((old / new) - 1) / 2
                affine[:3, axis] *= old / new
        return Volume(array, affine, volume.sources, volume.header)

    def back(self, answer: Array, shape: Sequence[int], *, smooth: bool) -> Array:
        """See :meth:`ImageChange.back`."""
        return _resized(answer, shape, smooth)


def _resized(array: Array, shape: Sequence[int], smooth: bool) -> Array:
    """Return ``(C, *S)`` on another number of voxels of the same extent."""
    ratios = [old / new for old, new in zip(array.shape[1:], shape, strict=True)]
    matrix = np.array([1.0, *ratios])
    # The middle of a voxel i is at i + 1/2 of its axis.
    offset = np.array([0.0, *((ratio - 1) / 2 for ratio in ratios)])
    source = array.astype(np.float32) if smooth else array
    found: Array = ndimage.affine_transform(
        source, matrix, offset, (array.shape[0], *shape), order=1 if smooth else 0, mode="nearest"
    )
    return found
