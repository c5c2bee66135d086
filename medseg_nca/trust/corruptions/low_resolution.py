"""Thick slices, or a picture that was enlarged."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from medseg_nca.trust.corruptions.base import Corruption, Labelled, long_axes

_FACTORS = (2, 4, 6)


class LowResolution(Corruption):
    """Means over several voxels along one axis, written back on the same grid."""

    about: ClassVar[str] = (
        "Along one axis, each run of 2, 4 or 6 voxels holds their mean: thick slices on the grid "
        "of thin ones."
    )

    def apply(self, case: Labelled, strength: int, rng: np.random.Generator) -> Labelled:
        """Implement :meth:`Corruption.apply`."""
        axis = int(rng.choice(long_axes(case.image))) + 1
        n, factor = case.image.shape[axis], _FACTORS[strength - 1]
        starts = np.arange(0, n, factor)
        sizes = np.diff([*starts, n])
        sums = np.add.reduceat(case.image, starts, axis=axis)
        column = [-1 if a == axis else 1 for a in range(case.image.ndim)]
        means = (sums / sizes.reshape(column)).astype(np.float32)
        return replace(case, image=np.repeat(means, sizes, axis=axis))


CORRUPTION = LowResolution()
