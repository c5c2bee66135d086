"""An image out of focus, or smoothed by whoever reconstructed it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from scipy.ndimage import gaussian_filter

from medseg_nca.trust.corruptions.base import Corruption, Labelled

_VOXELS = (1.0, 2.0, 4.0)


class Blur(Corruption):
    """A Gaussian filter, equally wide in millimetres along every axis."""

    about: ClassVar[str] = (
        "A Gaussian filter, whose standard deviation is 1, 2 or 4 times the smallest side of a "
        "voxel."
    )

    def apply(self, case: Labelled, strength: int, rng: np.random.Generator) -> Labelled:
        """Implement :meth:`Corruption.apply`."""
        smallest = min(case.spacing)
        sigma = [_VOXELS[strength - 1] * smallest / side for side in case.spacing]
        return replace(case, image=gaussian_filter(case.image, [0, *sigma], mode="nearest"))


CORRUPTION = Blur()
