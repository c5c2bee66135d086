"""How long, how often: iterations, warm-up, validations and checkpoints from the minutes given.

With a limit of time nobody knows the number of iterations, so the rhythm is told in shares of the
training: the same minutes and data give the same plan on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod

from medseg_nca.config.model import ModelSettings
from medseg_nca.errors import ConfigError
from medseg_nca.models.describe import describe
from medseg_nca.recipe.numbers import (
    CHECKPOINT_EVERY,
    CHECKPOINT_MINUTES,
    FLOP_PER_SECOND,
    ITERATIONS,
    LEAST_VALIDATION_CASES,
    MOST_ITERATIONS,
    VALIDATE_EVERY,
    VALIDATION_SHARE,
    VALIDATIONS,
    VOXELS_PER_SECOND,
    WARMUP,
    WARMUP_MINUTES,
    WARMUP_SHARE,
)


def iterations(minutes: float | None) -> tuple[int, str]:
    """Iterations, and why."""
    if minutes is None:
        return ITERATIONS, "no limit of time"
    return MOST_ITERATIONS, f"more than fit into {minutes:g} minutes, which end the training"


def warmup(minutes: float | None, count: int) -> tuple[int | float, str]:
    """Iterations or share of the training until the full learning rate, and why."""
    if minutes is None:
        few = min(WARMUP, math.ceil(WARMUP_SHARE * count))
        return few, f"at most {WARMUP_SHARE:.0%} of {count:,} iterations"
    share = round(min(WARMUP_SHARE, WARMUP_MINUTES / minutes), 4)
    return share, f"{share * minutes * 60:.0f} seconds"


def validate_every(minutes: float | None, count: int) -> tuple[int | float, str]:
    """Iterations or share of the training between validations, and why."""
    if minutes is None:
        every = max(min(VALIDATE_EVERY, count // VALIDATIONS), 1)
        return every, f"{math.ceil(count / every)} times in {count:,} iterations"
    every_minutes = minutes / VALIDATIONS
    return 1 / VALIDATIONS, f"{VALIDATIONS} times, every {every_minutes:.2g} minutes"


def checkpoint_every(minutes: float | None, every: int | float) -> tuple[int | float, str]:
    """Iterations or share of the training between checkpoints, and why.

    Args:
        minutes: of the training.
        every: of the validations, on which every checkpoint rests.
    """
    if minutes is None or every >= 1:
        return CHECKPOINT_EVERY, "what is lost when a machine fails"
    parts = math.ceil(every * minutes / CHECKPOINT_MINUTES)
    return every / parts, f"every {every * minutes / parts:.2g} minutes, which a crash may cost"


def validate_cases(
    model: ModelSettings,
    shapes: Sequence[Sequence[int]],
    minutes: float | None,
    count: int,
    cores: int,
) -> tuple[int | None, str]:
    """How many cases each validation predicts, and why.

    Args:
        model: with channels and levels.
        shapes: of the validation cases.
        minutes: of the training.
        count: of the validations.
        cores: of this machine; 0 beside a GPU, where nothing is limited.
    """
    if not shapes:
        return None, "there is none"
    if minutes is None or not cores:
        return None, f"all {len(shapes)}"
    median = sorted(shapes, key=prod)[len(shapes) // 2]
    seconds = prod(median) / VOXELS_PER_SECOND + _flop(model, median) / FLOP_PER_SECOND / cores
    room = minutes * 60 * VALIDATION_SHARE / max(count, 1)
    fit = max(int(room / seconds), LEAST_VALIDATION_CASES)
    if fit >= len(shapes):
        return None, f"all {len(shapes)}"
    return fit, (
        f"of {len(shapes)}: about {seconds:.2g} s each, {VALIDATION_SHARE:.0%} of the time in all"
    )


def _flop(model: ModelSettings, shape: Sequence[int]) -> float:
    """Of one prediction; networks do not tell theirs."""
    try:
        return describe(model, tuple(shape)).flop or 0.0
    except ConfigError:
        return 0.0
