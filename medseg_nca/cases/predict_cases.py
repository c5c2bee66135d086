"""Predict all cases of a request, in one process or several, and list what became of them."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from medseg_nca.cases.case_work import CaseRecord, CaseWork, predict_case
from medseg_nca.cases.prediction_inputs import CaseInput
from medseg_nca.cases.training_notes import tell_of_training
from medseg_nca.config import PreprocessPlan
from medseg_nca.errors import MemoryBudgetError, PartialFailure
from medseg_nca.io.atomic import remove_leftovers, write_json
from medseg_nca.job import Job
from medseg_nca.work.case_records import finish, forget, read_record, set_aside, work_folder
from medseg_nca.work.scheduler import KILLED, Outcome, Scheduler, counted, open_scheduler

logger = logging.getLogger(__name__)

PREDICTIONS = "predictions.json"
# Name of the list of an earlier run while its results are being replaced.
_EARLIER = "earlier.json"

Record = TypeVar("Record", bound=CaseRecord)
Shared = TypeVar("Shared")


class AskedRun(Protocol):
    """How a request wants its cases to be predicted; see :class:`PredictRequest`."""

    @property
    def out(self) -> Path:
        """Folder of the results."""

    @property
    def workers(self) -> int:
        """Number of processes."""

    @property
    def scheduler(self) -> str | None:
        """Address of a Dask scheduler."""

    @property
    def fresh(self) -> bool:
        """Whether finished cases are predicted again."""


def predict_cases(
    cases: Sequence[CaseInput],
    request: AskedRun,
    record_class: type[Record],
    share: Callable[[Path | None], Shared],
    make: Callable[[CaseInput, Shared], CaseWork[Record, Any]],
    header: Mapping[str, Any],
    plan: PreprocessPlan,
    job: Job,
) -> list[Record]:
    """Predict every case, and write ``predictions.json``.

    Each finished case is kept, even if the process is stopped or killed, and the same request goes
    on from there. A case is predicted again only if its files, the settings or the model changed,
    or a result is missing.

    Args:
        cases: at least one case.
        request: where the results go, and where the work is done.
        record_class: the class of the task's records.
        share: returns the model for all processes, from a folder that they all can see, or from
            None if the work is done in this process.
        make: returns the work on a case with that model.
        header: what ``predictions.json`` says besides its list.
        plan: the model's preprocessing, with which the images are compared.
        job: gets the progress, in the phase "predicting".

    Returns:
        The records in the order of the cases; those of failed cases have an error, which
        :func:`raise_for_failures` raises.

    Raises:
        MemoryBudgetError: if the only case needs more memory than the settings allow.
        OutputError: if a result cannot be written.
        SchedulerError: if no worker can be used.
        Interrupted: if the job was cancelled.
    """
    out = request.out
    found = _run_each(cases, request, record_class, share, make, job)
    results = [_result(case, found[index], out, record_class) for index, case in enumerate(cases)]
    write_json(
        out / PREDICTIONS, {**header, "predictions": [result.to_dict() for result in results]}
    )
    finish(out)
    if len(cases) == 1 and found[0].kind == MemoryBudgetError.__name__:
        raise MemoryBudgetError(str(found[0].error))
    names = called(results)
    tell_of_training({names[r.name]: r.training for r in results if r.error is None}, plan)
    return results


def _run_each(
    cases: Sequence[CaseInput],
    request: AskedRun,
    record_class: type[Record],
    share: Callable[[Path | None], Shared],
    make: Callable[[CaseInput, Shared], CaseWork[Record, Any]],
    job: Job,
) -> dict[int, Outcome[Record]]:
    """Predict every case where the request wants it, and return the outcomes by number."""
    out = request.out
    with open_scheduler(
        min(request.workers, len(cases)), request.scheduler, work_folder(out)
    ) as spread:
        if request.fresh:
            forget(out, PREDICTIONS)
        remove_leftovers(out)
        earlier = _take_earlier(out, record_class)
        shared = share(work_folder(out) if spread.separate else None)
        items = (
            _placed(replace(make(case, shared), known=earlier.get(case.name)), spread)
            for case in cases
        )
        outcomes = spread.run_each(predict_case, items, lambda item: item.case.files, job)
        found: dict[int, Outcome[Record]] = {}
        for outcome in counted(outcomes, job, "predicting", len(cases)):
            found[outcome.index] = outcome
            if outcome.error:
                logger.error("%s", _reason(cases[outcome.index], outcome))
    return found


def earlier_results(out: Path, record_class: type[CaseRecord]) -> set[Path]:
    """Return the files that earlier runs wrote; they are no inputs, even if ``out`` is one."""
    lists = (out / PREDICTIONS, work_folder(out) / _EARLIER)
    listed = [record for file in lists for record in _listed(file, out, record_class)]
    unlisted = [
        record_class.from_tree(read_record(file), out) for file in work_folder(out).glob("*.json")
    ]
    return {
        (out / file.name).resolve()
        for record in (*listed, *unlisted)
        for file in (record.files.values() if record else ())
        if file.is_whole(out)
    }


def called(results: Sequence[CaseRecord]) -> dict[str, str]:
    """Return what messages call each result: its file's name if unique, else its own name."""
    counts = Counter(result.source.name for result in results)
    return {r.name: r.source.name if counts[r.source.name] == 1 else r.name for r in results}


def raise_for_failures(results: Sequence[CaseRecord], out: Path) -> None:
    """Raise an error if a case failed.

    Raises:
        PartialFailure: if a case failed; it names each failed case.
    """
    failed = {result.name: result.error for result in results if result.error}
    if failed:
        raise PartialFailure(
            f"{len(failed)} of {len(results)} inputs failed; {out / PREDICTIONS} says why.",
            hint="Correct or leave out these inputs and run the same command again; finished "
            "inputs are not predicted again.",
            failures=failed,
        )


def _placed(work: CaseWork[Record, Any], spread: Scheduler) -> CaseWork[Record, Any]:
    """Make the paths absolute if the workers may have another current folder."""
    if not spread.remote:
        return work
    return replace(work, case=work.case.absolute(), out=work.out.absolute())


def _take_earlier(out: Path, record_class: type[Record]) -> dict[str, Record]:
    """Return the records of an earlier run by case.

    Its list is moved away, because it may be wrong until this run has ended.
    """
    hidden = work_folder(out) / _EARLIER
    set_aside(out / PREDICTIONS, hidden)
    return {record.name: record for record in _listed(hidden, out, record_class)}


def _listed(file: Path, out: Path, record_class: type[Record]) -> list[Record]:
    """Return the records in a list of results; none if the list is missing or damaged."""
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))["predictions"]
        records = [record_class.from_tree(entry, out) for entry in entries]
        return [record for record in records if record is not None]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _result(
    case: CaseInput, outcome: Outcome[Record], out: Path, record_class: type[Record]
) -> Record:
    """Return the record of a case, with paths as the caller gave them."""
    if outcome.result is None:
        return record_class(case.name, case.source, out, error=_reason(case, outcome))
    return replace(outcome.result, source=case.source, out=out)


def _reason(case: CaseInput, outcome: Outcome[Any]) -> str:
    """Return what went wrong; the name of the file is added to errors that do not contain it."""
    if outcome.cause:
        return f"{case.source}: failed with an {outcome.error}"
    return f"{case.source}: {KILLED}." if outcome.error == KILLED else str(outcome.error)
