"""Another contrast: other settings of the scanner, another sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from medseg_nca.trust.corruptions.base import Corruption, Labelled, amplitude, per_channel

_GAMMAS = (1.6, 3.0)


class Contrast(Corruption):
    """Intensities by a curve of gamma, and at strength 3 turned round: bright is dark."""

    about: ClassVar[str] = (
        "Intensities to the power of 1.6 or 3 or the inverse of it; at strength 3 bright is dark."
    )

    def apply(self, case: Labelled, strength: int, rng: np.random.Generator) -> Labelled:
        """Implement :meth:`Corruption.apply`."""
        image = case.image
        dims = image.ndim - 1
        low = per_channel(np.percentile(image.reshape(len(image), -1), 1, axis=1), dims)
        span = per_channel(amplitude(image), dims)
        scaled = (image - low) / span
        if strength == 3:
            return replace(case, image=((1 - scaled) * span + low).astype(np.float32))
        gamma = _GAMMAS[strength - 1]
        gamma = gamma if rng.random() < 0.5 else 1 / gamma
        curved = np.sign(scaled) * np.abs(scaled) ** gamma
        return replace(case, image=(curved * span + low).astype(np.float32))


CORRUPTION = Contrast()
