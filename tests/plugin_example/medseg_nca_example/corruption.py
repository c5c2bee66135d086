"""A corruption: a bright square in one corner, like a marker left on a picture."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from medseg_nca.trust.corruptions.base import Corruption, Labelled


class Marker(Corruption):
    """Sets a corner to the brightest value."""

    about: ClassVar[str] = "A bright corner of 5, 10 or 20 % of each axis."

    def apply(self, case: Labelled, strength: int, rng: np.random.Generator) -> Labelled:
        """Implement :meth:`Corruption.apply`."""
        image = case.image.copy()
        share = (0.05, 0.1, 0.2)[strength - 1]
        corner = tuple(slice(0, max(round(n * share), 1)) for n in image.shape[1:])
        image[(slice(None), *corner)] = image.max()
        return replace(case, image=image)


CORRUPTION = Marker()
