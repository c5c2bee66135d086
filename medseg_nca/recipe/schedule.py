"""The schedule of a training: iterations, warm-up, validations and checkpoints.

With a limit of time nobody knows the number of iterations, so the rhythm is told in shares of the
training: the same minutes and data give the same plan on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from medseg_nca.config.model import ModelSettings
from medseg_nca.errors import ConfigError
from medseg_nca.models.describe import describe
from medseg_nca.recipe.numbers import (
    CASE_SECONDS,
    CHECKPOINT_EVERY,
    CHECKPOINT_MINUTES,
    FLOP_PER_SECOND,
    ITERATIONS,
    LEAST_VALIDATIONS,
    MOST_ITERATIONS,
    SOME_VALIDATION_CASES,
    VALIDATE_EVERY,
    VALIDATION_MINUTES,
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
    return share, f"{share * minutes * 60:.2g} seconds"


@dataclass(frozen=True)
class Validations:
    """How often is validated, on how much.

    Attributes:
        every: iterations, or below 1 a share of the training.
        cases: that each validation predicts, None for all.
        often: in words.
        much: in words.
    """

    every: int | float
    cases: int | None
    often: str
    much: str


def validations(
    minutes: float | None, count: int, cases: int, seconds: float, share: float | None = None
) -> Validations:
    """Plan the validations of a training.

    Args:
        minutes: of the training, None without a limit.
        count: iterations of the training.
        cases: that there are to validate on.
        seconds: that one of them takes; 0 where that is nothing.
        share: of the training between two, where that is set already.
    """
    if minutes is None:
        every = max(min(VALIDATE_EVERY, count // VALIDATIONS), 1)
        often = f"{math.ceil(count / every)} times in {count:,} iterations"
        return Validations(every, None, often, f"all {cases}")
    room = minutes * 60 * VALIDATION_SHARE
    times = min(VALIDATIONS, int(minutes / VALIDATION_MINUTES))
    if seconds:
        times = min(times, int(room / (seconds * max(min(cases, SOME_VALIDATION_CASES), 1))))
    times = max(times, LEAST_VALIDATIONS) if share is None else round(1 / share)
    often = f"{times} times, every {minutes / times:.2g} minutes"
    fit = int(room / times / seconds) if seconds else cases
    if fit >= cases:
        return Validations(1 / times, None, often, f"all {cases}")
    fit = max(fit, 2)
    much = f"of {cases}: about {seconds:.2g} s each, and {VALIDATION_SHARE:.0%} of the time for all"
    return Validations(1 / times, fit, often, much)


def checkpoint_every(minutes: float | None, every: int | float) -> tuple[int | float, str]:
    """Iterations or share of the training between checkpoints, and why.

    Args:
        minutes: of the training.
        every: of the validations; each of them coincides with a checkpoint.
    """
    if minutes is None or every >= 1:
        return CHECKPOINT_EVERY, "what is lost when a machine fails"
    parts = math.ceil(every * minutes / CHECKPOINT_MINUTES)
    return every / parts, f"every {every * minutes / parts:.2g} minutes, which a crash may cost"


def case_seconds(model: ModelSettings, shapes: Sequence[Sequence[int]], cores: int) -> float:
    """About how long a case of a validation takes on a CPU: a guess that no clock decides.

    Args:
        model: with channels and levels.
        shapes: of the cases.
        cores: of the machine.
    """
    if not shapes:
        return 0.0
    median = sorted(shapes, key=prod)[len(shapes) // 2]
    work = _flop(model, median) / FLOP_PER_SECOND / cores
    return CASE_SECONDS + prod(median) / VOXELS_PER_SECOND + work


def _flop(model: ModelSettings, shape: Sequence[int]) -> float:
    """Of one prediction; networks do not tell theirs."""
    try:
        return describe(model, tuple(shape)).flop or 0.0
    except ConfigError:
        return 0.0
