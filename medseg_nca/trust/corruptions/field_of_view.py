"""A scan that ends inside the organ."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from medseg_nca.trust.corruptions.base import Corruption, Labelled

_SHARES = (0.15, 0.3, 0.5)
_LEAST = 4


class FieldOfView(Corruption):
    """A part of the image is missing at one end of one axis, and so is its truth."""

    about: ClassVar[str] = (
        "The array ends earlier at one end of one axis: 15, 30 or 50 % of it are missing."
    )

    def apply(self, case: Labelled, strength: int, rng: np.random.Generator) -> Labelled:
        """Implement :meth:`Corruption.apply`."""
        shape = case.image.shape[1:]
        axes = [axis for axis, n in enumerate(shape) if n > _LEAST]
        if not axes:
            return case
        axis = int(rng.choice(axes))
        n = shape[axis]
        kept = max(n - round(_SHARES[strength - 1] * n), _LEAST)
        start = int(rng.choice([0, n - kept]))
        window = [slice(None)] * case.image.ndim
        window[axis + 1] = slice(start, start + kept)
        part = tuple(window)
        return replace(case, image=case.image[part], truth=case.truth[part])


CORRUPTION = FieldOfView()
