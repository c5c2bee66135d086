"""Noise of the scanner."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from medseg_nca.trust.corruptions.base import Corruption, Labelled, amplitude, per_channel

_SHARES = (0.08, 0.2, 0.5)


class Noise(Corruption):
    """Independent Gaussian noise in every voxel."""

    about: ClassVar[str] = (
        "Gaussian noise in every voxel; its standard deviation is 8, 20 or 50 % of the image's "
        "range of intensities."
    )

    def apply(self, case: Labelled, strength: int, rng: np.random.Generator) -> Labelled:
        """Implement :meth:`Corruption.apply`."""
        image = case.image
        deviation = per_channel(amplitude(image), image.ndim - 1) * _SHARES[strength - 1]
        noise = rng.standard_normal(image.shape, np.float32)
        return replace(case, image=image + noise * deviation)


CORRUPTION = Noise()
