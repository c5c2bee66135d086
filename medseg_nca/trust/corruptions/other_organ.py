"""An image of something else, made of the image itself."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt

from medseg_nca.trust.corruptions.base import Array, Corruption, Labelled, amplitude, per_channel

_BLOCKS = 3
# Voxels around the organ that can hold a part of it.
_BORDER = 2


class OtherOrgan(Corruption):
    """What the organ looked like is gone, and the intensities stay: nothing is there to find."""

    about: ClassVar[str] = (
        "Nothing of the organ is left: it is painted over and blocks of the image are put in "
        "another order, noise with the image's spectrum, or smooth shapes of its intensities. The "
        "truth is empty."
    )

    def apply(self, case: Labelled, strength: int, rng: np.random.Generator) -> Labelled:
        """Implement :meth:`Corruption.apply`."""
        image = case.image
        if strength == 1:
            # A small organ lies within one block, and would only be elsewhere.
            image = _shuffled(_painted_over(image, case.truth[0] != 0), rng)
        else:
            image = (_scrambled if strength == 2 else _shapes)(image, rng)
        return replace(case, image=image.astype(np.float32), truth=np.zeros_like(case.truth))


def _painted_over(image: Array, organ: NDArray[np.bool_]) -> Array:
    """Give the voxels of the organ, and those at its border, the values nearest to them outside."""
    wide = binary_dilation(organ, iterations=_BORDER)
    covered = organ if wide.all() else wide
    if covered.all():
        return np.zeros_like(image)
    nearest = distance_transform_edt(covered, return_distances=False, return_indices=True)
    return image[:, *nearest]


def _shuffled(image: Array, rng: np.random.Generator) -> Array:
    """Cut each axis into thirds and put the blocks into another order, flipped at random."""
    found = image
    for axis in range(1, image.ndim):
        n = image.shape[axis]
        parts = np.array_split(np.arange(n), min(_BLOCKS, n))
        order = [*range(1, len(parts)), 0] if rng.random() < 0.5 else [-1, *range(len(parts) - 1)]
        index = np.concatenate([parts[k][::-1] if rng.random() < 0.5 else parts[k] for k in order])
        found = np.take(found, index, axis=axis)
    return found


def _scrambled(image: Array, rng: np.random.Generator) -> Array:
    """Keep the amplitudes of the spectrum and take phases of noise."""
    axes = tuple(range(1, image.ndim))
    noise = rng.standard_normal(image.shape[1:])
    phases = np.exp(1j * np.angle(np.fft.fftn(noise)))
    found = np.fft.ifftn(np.abs(np.fft.fftn(image, axes=axes)) * phases, axes=axes)
    return found.real.astype(np.float32)


def _shapes(image: Array, rng: np.random.Generator) -> Array:
    """Draw a few ellipsoids of random intensity on an even background."""
    shape = image.shape[1:]
    grid = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    drawn = np.zeros(shape)
    for _ in range(6):
        middle, radii = rng.uniform(0.1, 0.9, len(shape)), rng.uniform(0.08, 0.35, len(shape))
        inside = sum(((g - m) / r) ** 2 for g, m, r in zip(grid, middle, radii, strict=True)) < 1
        drawn[inside] = rng.uniform(0.2, 1)
    drawn += 0.05 * rng.standard_normal(shape)
    dims = image.ndim - 1
    low = per_channel(np.percentile(image.reshape(len(image), -1), 1, axis=1), dims)
    found = low + per_channel(amplitude(image), dims) * drawn[None]
    return found.astype(np.float32)


CORRUPTION = OtherOrgan()
