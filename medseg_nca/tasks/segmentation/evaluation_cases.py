"""The cases of an evaluation, spread over processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from medseg_nca.cases.evaluate_case import Evaluating, EvaluationRecord, evaluate_case
from medseg_nca.job import Job
from medseg_nca.work.scheduler import Outcome, Scheduler, counted

logger = logging.getLogger(__name__)


def evaluate_cases(
    items: Sequence[Evaluating], spread: Scheduler, job: Job
) -> tuple[dict[str, EvaluationRecord], dict[str, str]]:
    """Evaluate cases; one that fails does not stop the others.

    Returns:
        What was found and what went wrong, by id in the order of the items.

    Raises:
        OutputError, SchedulerError, Interrupted: as
            :meth:`medseg_nca.work.scheduler.Scheduler.run_each`.
    """
    found: dict[int, Outcome[EvaluationRecord]] = {}
    placed = (_absolute(item) if spread.remote else item for item in items)
    outcomes = spread.run_each(evaluate_case, placed, lambda item: item.files, job)
    for outcome in counted(outcomes, job, "evaluating", len(items)):
        found[outcome.index] = outcome
        if outcome.error is not None:
            logger.error("%s failed: %s", items[outcome.index].case.id, outcome.error)
    measured: dict[str, EvaluationRecord] = {}
    failed: dict[str, str] = {}
    for index, item in enumerate(items):
        result, error = found[index].result, found[index].error
        if result is not None:
            measured[item.case.id] = result
        else:
            failed[item.case.id] = error or "unknown"
    return measured, failed


def _absolute(item: Evaluating) -> Evaluating:
    """For workers whose current folder is another one."""
    label = item.case.label
    case = replace(
        item.case,
        images=tuple(path.absolute() for path in item.case.images),
        label=None if label is None else label.absolute(),
    )
    return replace(item, case=case, out=item.out.absolute())
