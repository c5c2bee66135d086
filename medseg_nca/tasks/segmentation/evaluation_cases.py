"""Evaluate the cases of an evaluation in several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medseg_nca.cases.evaluate_case import Evaluating, EvaluationRecord, evaluate_case
from medseg_nca.job import Job
from medseg_nca.work.scheduler import Scheduler, gathered


def evaluate_cases(
    items: Sequence[Evaluating], spread: Scheduler, job: Job
) -> tuple[dict[str, EvaluationRecord], dict[str, str]]:
    """Evaluate cases; a case that fails does not stop the others.

    Returns:
        The record of each case that was evaluated, and the error of each case that failed, by
        id in the order of the items.

    Raises:
        OutputError, SchedulerError, Interrupted: as
            :meth:`medseg_nca.work.scheduler.Scheduler.run_each`.
    """
    placed = (_absolute(item) if spread.remote else item for item in items)
    outcomes = spread.run_each(evaluate_case, placed, lambda item: item.files, job)
    return gathered(outcomes, [item.case.id for item in items], job, "evaluating")


def _absolute(item: Evaluating) -> Evaluating:
    """Make the paths absolute, because the workers may have another current folder."""
    label = item.case.label
    case = replace(
        item.case,
        images=tuple(path.absolute() for path in item.case.images),
        label=None if label is None else label.absolute(),
    )
    return replace(item, case=case, out=item.out.absolute())
