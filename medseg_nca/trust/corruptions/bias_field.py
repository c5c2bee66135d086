"""Uneven sensitivity of a coil, uneven light on a picture."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from scipy.ndimage import zoom

from medseg_nca.trust.corruptions.base import Corruption, Labelled

_LOG_FACTORS = (0.4, 0.8, 1.5)
_KNOTS = 3


class BiasField(Corruption):
    """A smooth factor, from a coarse grid of random numbers."""

    about: ClassVar[str] = (
        "Intensities times a smooth field; it differs by a factor of at most e to the power of "
        "0.4, 0.8 or 1.5 from its middle."
    )

    def apply(self, case: Labelled, strength: int, rng: np.random.Generator) -> Labelled:
        """Implement :meth:`Corruption.apply`."""
        shape = case.image.shape[1:]
        knots = rng.uniform(-1, 1, (_KNOTS,) * len(shape)).astype(np.float32)
        knots -= (knots.max() + knots.min()) / 2
        knots /= max(float(np.abs(knots).max()), 1e-6)
        field = zoom(knots, [n / _KNOTS for n in shape], order=1, grid_mode=True, mode="nearest")
        low = case.image.min(axis=tuple(range(1, case.image.ndim)), keepdims=True)
        factor = np.exp(_LOG_FACTORS[strength - 1] * field)
        return replace(case, image=(case.image - low) * factor + low)


CORRUPTION = BiasField()
