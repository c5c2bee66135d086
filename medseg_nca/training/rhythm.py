"""When something is due that happens at every n-th iteration or n-th part of the training."""

from __future__ import annotations

import math

# Allowed rounding error of a progress, which is a quotient: 3 / 10 counts as three tenths.
_ROUNDING = 1e-9


def is_due(every: int | float, iteration: int, before: float, reached: float) -> bool:
    """Return whether something is due after an iteration.

    Args:
        every: how often: a number of iterations, or, if below 1, a share of the training.
        iteration: how many iterations are done.
        before: progress of the training before this iteration, 0 to 1.
        reached: progress of the training after this iteration, 0 to 1.
    """
    if every >= 1:
        return iteration % int(every) == 0
    return math.floor(reached / every + _ROUNDING) > math.floor(before / every + _ROUNDING)
