"""Thick slices, or a picture that was enlarged."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from scipy.ndimage import uniform_filter1d

from medseg_nca.trust.corruptions.base import Corruption, Labelled

_FACTORS = (2, 4, 6)


class LowResolution(Corruption):
    """Means over several voxels along one axis, written back on the same grid."""

    about: ClassVar[str] = (
        "Along one axis, each run of 2, 4 or 6 voxels holds their mean: thick slices on the grid "
        "of thin ones."
    )

    def apply(self, case: Labelled, strength: int, rng: np.random.Generator) -> Labelled:
        """Implement :meth:`Corruption.apply`."""
        shape = case.image.shape[1:]
        axis = int(rng.integers(len(shape)))
        n, factor = shape[axis], min(_FACTORS[strength - 1], shape[axis])
        mean = uniform_filter1d(case.image, factor, axis=axis + 1, mode="nearest")
        middle = np.minimum(np.arange(n) // factor * factor + factor // 2, n - 1)
        return replace(case, image=np.take(mean, middle, axis=axis + 1))


CORRUPTION = LowResolution()
