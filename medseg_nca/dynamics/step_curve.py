"""The score of a model against the number of steps that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medseg_nca.dynamics.subject import Averages, ProbedCase, Scores, Subject
from medseg_nca.errors import ConfigError, NonFiniteStateError
from medseg_nca.inference.step_factor import times_steps
from medseg_nca.job import Job

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
ALL = "all"


@dataclass(frozen=True)
class StepPoint:
    """The scores of one case after one number of steps.

    Attributes:
        case: name of the case.
        level: which level took other steps than the trained ones: "all", or its number from 1.
        factor: how many times its trained steps.
        steps: what each level took, coarse to fine.
        scores: by name, the task's score first; empty if a state was not finite.
        error: what went wrong; None if nothing did.
    """

    case: str
    level: str
    factor: float
    steps: tuple[int, ...]
    scores: Scores
    error: str | None = None


@dataclass(frozen=True)
class StepCurve:
    """The points of all cases, levels and factors."""

    points: tuple[StepPoint, ...]

    def means(self, level: str = ALL) -> dict[float, Scores]:
        """Return the mean over the cases for each factor, in the order of the factors."""
        chosen = [point for point in self.points if point.level == level]
        found = {}
        for factor in sorted({point.factor for point in chosen}):
            averages = Averages([p.scores for p in chosen if p.factor == factor])
            found[factor] = averages.mean()
        return found

    @property
    def levels(self) -> tuple[str, ...]:
        """The values of :attr:`StepPoint.level`, in the order in which they were measured."""
        return tuple(dict.fromkeys(point.level for point in self.points))


def metric_against_steps(
    subject: Subject,
    factors: Sequence[float] = FACTORS,
    *,
    each_level: bool = False,
    job: Job | None = None,
) -> StepCurve:
    """Measure a model after fewer and more steps than it was trained with.

    Args:
        subject: the model and its cases.
        factors: how many times the trained steps, each above 0.
        each_level: also let one level at a time take other steps, and the others those of the
            training.
        job: gets the progress, in the phase "steps".

    Raises:
        ConfigError: if the model takes no steps.
        DataError: if a case cannot be used.
        Interrupted: if the job was cancelled.
    """
    if "steps" in subject.missing:
        raise ConfigError(f"steps: {subject.missing['steps']}")
    job = job or Job()
    plans = _plans(subject.steps, factors, each_level=each_level)
    points, total = [], len(plans) * len(subject.cases)
    for number, name in enumerate(subject.cases):
        case = subject.open(name)
        for turn, (level, factor, each) in enumerate(plans):
            job.report("steps", number * len(plans) + turn, total, unit="roll-outs")
            points.append(_point(case, level, factor, each, subject.steps, job))
    job.report("steps", total, total, unit="roll-outs")
    return StepCurve(tuple(points))


def _plans(
    steps: Sequence[int], factors: Sequence[float], *, each_level: bool
) -> list[tuple[str, float, tuple[float, ...]]]:
    """Return level, factor, and the factor of each level, for every run of a case."""
    ordered = sorted(set(factors))
    plans = [(ALL, factor, (factor,) * len(steps)) for factor in ordered]
    if each_level and len(steps) > 1:
        for level in range(len(steps)):
            plans += [
                (
                    str(level + 1),
                    factor,
                    tuple(factor if k == level else 1.0 for k in range(len(steps))),
                )
                for factor in ordered
            ]
    return plans


def _point(
    case: ProbedCase,
    level: str,
    factor: float,
    each: tuple[float, ...],
    steps: tuple[int, ...],
    job: Job,
) -> StepPoint:
    taken = times_steps(steps, each)
    try:
        scores = case.score(case.answer(factor=each, job=job.silent()))
    except NonFiniteStateError as error:
        return StepPoint(case.id, level, factor, taken, {}, error.message)
    return StepPoint(case.id, level, factor, taken, scores)
