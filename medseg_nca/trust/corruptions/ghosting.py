"""Ghosts of a patient who moved during the scan."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from medseg_nca.trust.corruptions.base import Corruption, Labelled

_WEIGHTS = (0.3, 0.6, 0.9)
_GHOSTS = (2, 3, 4)


class Ghosting(Corruption):
    """Some lines of k-space are weaker than others, along one axis."""

    about: ClassVar[str] = (
        "Copies of the image, shifted along one axis: of all lines of k-space but every second, "
        "third or fourth, 30, 60 or 90 % are missing."
    )

    def apply(self, case: Labelled, strength: int, rng: np.random.Generator) -> Labelled:
        """Implement :meth:`Corruption.apply`."""
        # Phases are encoded in the plane, whose axes are the longest of the array.
        plane = np.argsort(case.image.shape[1:])[-2:]
        axis = int(rng.choice(plane)) + 1
        every = int(rng.choice(_GHOSTS))
        lines = np.fft.rfft(case.image, axis=axis)
        weight = np.full(lines.shape[axis], 1 - _WEIGHTS[strength - 1])
        weight[::every] = 1
        weight[: max(len(weight) // 50, 1)] = 1  # the mean brightness stays
        shape = [1] * lines.ndim
        shape[axis] = -1
        n = case.image.shape[axis]
        image = np.fft.irfft(lines * weight.reshape(shape), n, axis=axis)
        return replace(case, image=image.astype(np.float32))


CORRUPTION = Ghosting()
