"""Tell, before a training begins, how many of its iterations fit into its time."""

from __future__ import annotations

import math

from medseg_nca.config import PreprocessPlan, RunSettings
from medseg_nca.recipe.numbers import LEAST_ITERATIONS
from medseg_nca.training.timing import IterationTime, TimeTable

# Least side of a sample, in voxels, that is suggested to save time.
_SHORTEST = 16


def time_table(
    timed: IterationTime, settings: RunSettings, plan: PreprocessPlan, *, prepared: bool
) -> TimeTable:
    """Return how much of the run fits into its time, judged by iterations that were timed.

    Args:
        timed: time of an iteration on this machine.
        settings: settings of the run, with a value for every "auto".
        plan: the plan of the data set.
        prepared: whether the data set was prepared before the run, so that the size of its
            samples can only be changed by preparing it again.
    """
    training = settings.training
    seconds = timed.seconds(training.workers)
    each = f"An iteration takes about {seconds:.2g} s"
    whole = training.iterations * seconds / 60
    if training.max_minutes is None:
        return TimeTable(f"{each}: {training.iterations:,} iterations are {_span(whole)}.")
    fit = int(training.max_minutes * 60 / seconds)
    if fit >= training.iterations:
        return TimeTable(
            f"{each}: {training.iterations:,} iterations are {_span(whole)} of the "
            f"{training.max_minutes:g} minutes."
        )
    text = (
        f"{each}: about {_round(fit):,} iterations in {training.max_minutes:g} minutes, less what "
        "the validations take."
    )
    if fit >= LEAST_ITERATIONS:
        return TimeTable(text)
    need = math.ceil(LEAST_ITERATIONS * seconds / 60)
    ways = [f"--max-minutes {need}", *_cheaper(LEAST_ITERATIONS / max(fit, 1), settings, plan)]
    where = " (for `medseg-nca preprocess`, as the data are prepared)" if prepared else ""
    later = f", or cheaper iterations{where}: {' or '.join(ways[1:])}" if ways[1:] else ""
    return TimeTable(
        text,
        f"The recipe needs about {LEAST_ITERATIONS:,} iterations to learn well: give it "
        f"{ways[0]}{later}.",
    )


def _cheaper(factor: float, settings: RunSettings, plan: PreprocessPlan) -> list[str]:
    """Return ``--set`` options that make iterations about ``factor`` times as fast."""
    ways = []
    size = _smaller(plan, factor)
    if size is not None:
        ways.append(f"--set preprocess.crop_size={_brackets(size)}")
    spacing = plan.usual_spacing
    if len(plan.scales) > 1:  # the finest level is left out
        step = plan.scales[-2]
        coarser = [round(v * s, 4) for v, s in zip(spacing, step, strict=True)]
        ways.append(f"--set preprocess.spacing={_brackets(coarser)}")
    if not ways and settings.training.batch_size > 1:
        ways.append("--set training.batch_size=1")
    return ways


def _smaller(plan: PreprocessPlan, factor: float) -> list[int] | None:
    """Return a sample's size with ``factor`` times fewer voxels; None if it would be too small."""
    multiple = plan.scales[0] if plan.scales else (1,) * plan.dims
    size = list(plan.crop_size)
    while math.prod(size) * factor > math.prod(plan.crop_size):
        axis = size.index(max(size))
        half = -(-size[axis] // 2 // multiple[axis]) * multiple[axis]
        if half < _SHORTEST or half >= size[axis]:
            return None
        size[axis] = half
    return size


def _brackets(values: list[int] | list[float]) -> str:
    return "[" + ",".join(f"{v:g}" for v in values) + "]"


def _span(minutes: float) -> str:
    if minutes < 1:
        return f"about {max(round(minutes * 60), 1)} seconds"
    return f"about {minutes:.0f} minutes" if minutes < 90 else f"about {minutes / 60:.1f} hours"


def _round(count: int) -> int:
    """Round to two digits, because the estimate is not more precise."""
    digits = max(len(str(count)) - 2, 0)
    return round(count, -digits)
