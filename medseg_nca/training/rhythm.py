"""What happens every so often: every n-th iteration, or at every n-th part of the training."""

from __future__ import annotations

import math

# Progress is a quotient: 3 / 10 counts as three tenths.
_ROUNDING = 1e-9


def is_due(every: int | float, iteration: int, before: float, reached: float) -> bool:
    """Whether something is due after an iteration.

    Args:
        every: iterations; or a share of the training, below 1.
        iteration: how many are done.
        before: progress of the training before this iteration, 0 to 1.
        reached: and after it.
    """
    if every >= 1:
        return iteration % int(every) == 0
    return math.floor(reached / every + _ROUNDING) > math.floor(before / every + _ROUNDING)
