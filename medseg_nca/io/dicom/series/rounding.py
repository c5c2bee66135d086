"""Positions that were written with few decimals: whether that explains why they are not even."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Rounded numbers may have been stored as single floats; sums of decimals are not exact.
_SINGLE, _BIT_MORE = 1e-4, 1.001


def rounding(places: Array) -> float:
    """Half of the last decimal that all positions are written with, mm; 0 beyond two decimals.

    Args:
        places: positions, ``(n, 3)``.
    """
    for decimals in (1, 2):
        if np.abs(places - places.round(decimals)).max() <= _SINGLE:
            return 0.5 * 10.0**-decimals
    return 0.0


def could_be_even(distances: Array, within: float) -> bool:
    """Whether even distances exist of which none is further off than ``within``."""
    last = len(distances) - 1
    mean = float(distances[-1] - distances[0]) / last
    low, high = (mean + sign * 2 * within / last for sign in (-1, 1))
    for _ in range(60):  # the range of the differences is convex in the step
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if _range(distances, a) < _range(distances, b) else (a, high)
    return fits(distances, (low + high) / 2, within)


def fits(distances: Array, step: float, within: float) -> bool:
    """Whether planes that lie ``step`` apart could be at these distances, rounded by ``within``."""
    return _range(distances, step) <= 2 * within * _BIT_MORE


def _range(distances: Array, step: float) -> float:
    return float(np.ptp(distances - step * np.arange(len(distances))))
