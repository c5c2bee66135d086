"""Voxels that lie otherwise than the header says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from medseg_nca.trust.corruptions.base import Corruption, Labelled, long_axes


class Orientation(Corruption):
    """A flip, a half turn, or a quarter turn of the array; the header stays."""

    about: ClassVar[str] = (
        "The array is flipped along an axis, turned by 180 degrees or by 90 degrees, and the "
        "header does not say so."
    )

    def apply(self, case: Labelled, strength: int, rng: np.random.Generator) -> Labelled:
        """Implement :meth:`Corruption.apply`."""
        dims = case.image.ndim - 1
        first, second = (int(a) + 1 for a in rng.choice(dims, 2, replace=False))
        flipped = int(rng.choice(long_axes(case.image))) + 1
        turns = 1 if rng.random() < 0.5 else 3

        def moved(array: NDArray[Any]) -> NDArray[Any]:
            if strength == 1:
                return np.flip(array, flipped)
            return np.rot90(array, 2 if strength == 2 else turns, (first, second))

        return replace(case, image=moved(case.image), truth=moved(case.truth))


CORRUPTION = Orientation()
