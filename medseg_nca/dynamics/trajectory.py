"""How a state moves, step by step: size of the change, cells that moved, overflow."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from medseg_nca.errors import NonFiniteStateError
from medseg_nca.job import Job
from medseg_nca.nca.start import RollOutStart


@dataclass(frozen=True)
class Motion:
    """One step of a roll-out, over all cells and hidden channels.

    Attributes:
        step: number of the step, from 1.
        change: root mean square of the change of the hidden values.
        size: root mean square of the hidden values after the step.
        moved: share of the cells of which one hidden value changed by more than the tolerance.
        overflow: share of the hidden values beyond the bound.
        largest: the largest absolute hidden value; infinity if one is not finite.
    """

    step: int
    change: float
    size: float
    moved: float
    overflow: float
    largest: float


@dataclass
class Trajectory:
    """A roll-out that was watched.

    Attributes:
        motions: one for each step that was taken; a roll-out that stops by itself takes fewer.
        failed: the number of the step after which a value was not finite; None if all were.
    """

    motions: list[Motion] = field(default_factory=list)
    failed: int | None = None


def watch(
    start: RollOutStart,
    steps: int,
    *,
    tolerance: float = 0.01,
    bound: float = 10.0,
    job: Job | None = None,
) -> Trajectory:
    """Take some steps, and measure each.

    Args:
        start: the roll-out.
        steps: how many steps, also beyond those of the training.
        tolerance: see :attr:`Motion.moved`.
        bound: see :attr:`Motion.overflow`.
        job: asked in every step whether to go on.

    Raises:
        Interrupted: if the job was cancelled.
    """
    seen, job = Trajectory(), job or Job()
    before = _hidden(start, start.state).clone()

    def record(state: Tensor) -> None:
        nonlocal before
        job.check()
        now = _hidden(start, state)
        if seen.failed is None:
            motion = _motion(len(seen.motions) + 1, before, now, tolerance, bound)
            seen.motions.append(motion)
            if math.isinf(motion.largest):
                seen.failed = motion.step
        before = now.clone()

    try:
        start.go(steps, record)
    except NonFiniteStateError as error:
        if seen.failed is None:
            seen.failed = error.step - start.fire.first_step + 1
    return seen


def _hidden(start: RollOutStart, state: Tensor) -> Tensor:
    return state[:, start.hidden].float()


def _motion(step: int, before: Tensor, now: Tensor, tolerance: float, bound: float) -> Motion:
    largest = float(now.abs().amax())
    if not math.isfinite(largest):
        return Motion(step, math.inf, math.inf, math.nan, math.nan, math.inf)
    difference = now - before
    return Motion(
        step,
        change=float(difference.double().square().mean().sqrt()),
        size=float(now.double().square().mean().sqrt()),
        moved=float((difference.abs().amax(1) > tolerance).double().mean()),
        overflow=float((now.abs() > bound).double().mean()),
        largest=largest,
    )
