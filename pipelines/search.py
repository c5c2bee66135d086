"""Search for settings: many short trainings, compared on the validation part of one split."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medseg_nca.config import RunSettings
from medseg_nca.config.auto import has_key, value_at
from medseg_nca.datasets.splits import Split
from medseg_nca.errors import MedsegError
from medseg_nca.io.atomic import remove_leftovers
from medseg_nca.job import Job
from medseg_nca.pipelines import search_report
from medseg_nca.pipelines.search_data import SearchData, digest_of, divide, gather
from medseg_nca.pipelines.search_export import write_preset
from medseg_nca.pipelines.search_tracking import log_search, track_search
from medseg_nca.pipelines.search_trial import TrialPlan
from medseg_nca.pipelines.search_watch import SearchWatch
from medseg_nca.search.budget import Budget, budget_of
from medseg_nca.search.check import check_space, objectives_of
from medseg_nca.search.queue import QueueState, TrialQueue
from medseg_nca.search.results import describe_trial, pareto_front
from medseg_nca.search.space import Space
from medseg_nca.search.storage import SearchStorage, storage_url, told_plainly
from medseg_nca.search.study import StudyFacts, check_study, join_study
from medseg_nca.tasks import TASKS, Task
from medseg_nca.tracking.run import RunTracker
from medseg_nca.training.signals import on_stop_signal

logger = logging.getLogger(__name__)

PRESET = "best.yaml"


class SearchFailed(MedsegError):  # noqa: N818
    """A search has come to its end, and no trial has a result."""


@dataclass(frozen=True)
class SearchRequest:
    """What is searched, how long and by how many.

    Attributes:
        config: name of the preset or file that the settings come from.
        settings: the settings that every trial begins from.
        data: the data set; None if the task needs none.
        out: folder of the search.
        space: the dimensions.
        trials: number of trials of the study, those of earlier calls among them.
        minutes: time of this call in minutes; None has no limit.
        storage: URL of the storage; None takes a SQLite file in ``out``.
        study: name of the study.
        folds: number of folds that each trial trains; 1 without a cross-validation.
        objectives: names of the objectives; none takes the task's score.
        workers: number of processes; with 1 the work is done in this process.
        budget: how long each trial trains; None leaves it to the settings.
    """

    config: str
    settings: RunSettings
    data: Path | None
    out: Path
    space: Space
    trials: int
    minutes: float | None = None
    storage: str | None = None
    study: str = "search"
    folds: int = 1
    objectives: tuple[str, ...] = ()
    workers: int = 1
    budget: Budget | None = None


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        out: folder of the search.
        study: name of the study.
        state: number of trials by state.
        best: the best trial, as :func:`describe_trial` describes it; of several objectives, that
            of the Pareto front which is best by the first.
        front: numbers of the trials of the Pareto front.
        preset: file of the best settings.
        report: the report; None if it could not be made.
        cases: number of cases on each side of the split.
    """

    out: Path
    study: str
    state: QueueState
    best: Mapping[str, Any]
    front: tuple[int, ...]
    preset: Path
    report: Path | None
    cases: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values that ``--json`` prints."""
        tree = {**asdict(self), "state": asdict(self.state), "front": list(self.front)}
        return {
            key: str(value) if isinstance(value, Path) else value for key, value in tree.items()
        }


def run(request: SearchRequest, job: Job | None = None) -> SearchResult:
    """Begin a search, or go on with the one that the storage has.

    Args:
        request: what is searched.
        job: gets the progress: phases of the preparing, and then "trials".

    Raises:
        SearchFailed: if all trials have ended, and none with a result.
        ConfigError: if the space, an objective or a setting is wrong, or the storage holds a study
            of another data set, split, space, budget or of other objectives or settings.
        SearchStorageError: if the storage does not answer; its trials are kept.
        Interrupted: if the job was cancelled or a signal came; all trials are kept.
        MedsegError: see :mod:`medseg_nca.errors`.
    """
    job = job or Job()
    settings = request.settings
    if request.budget is not None:
        settings = request.budget.applied(settings)
    task: Task = TASKS.get(settings.task)
    settings = task.checked(settings)
    task.check_data(request.data)
    objectives = objectives_of(request.objectives, task)
    check_space(settings, request.space, task)
    storage = SearchStorage(storage_url(request.storage, request.out))
    remove_leftovers(request.out)
    with on_stop_signal(lambda: job.cancel("Stopped.")):
        splits = divide(task, request.data, request.out, settings, request.folds, job)
        facts = StudyFacts(
            request.config, task.name, "", digest_of(splits), request.folds, objectives,
            budget_of(settings), {dim.key: dim.to_plain() for dim in request.space},
            _comparable(request.settings),
        )  # fmt: skip
        check_study(storage, request.study, facts)  # before anything is written
        data = gather(task, request.data, request.out, settings, splits, job)
        facts = replace(facts, data_sha256=data.sha256)
        first = first_values(settings, request.space)
        new = join_study(storage, request.study, facts, request.trials, first)
        queue = TrialQueue(storage, request.study)
        _announce(request, queue, splits, new)
        with track_search(settings, request.out, queue, data.sha256) as tracker:
            plan = _plan(request, settings, data, objectives, tracker)
            with told_plainly(storage.name):
                SearchWatch(queue, job).run(plan, request.workers, request.minutes)
                result = _finish(request, queue, splits, objectives)
            files = [file for file in (result.preset, result.report) if file is not None]
            log_search(tracker, result.best["values"], files)
            return result


def first_values(settings: RunSettings, space: Space) -> dict[str, Any]:
    """Return the values of the settings themselves, as far as the space has them.

    The first trial tries them, so that a search is never worse than the settings it began with.
    """
    tree = settings.model_dump(mode="json")
    found = {dim.key: value_at(tree, dim.key) for dim in space if has_key(tree, dim.key)}
    known = {dim.key: dim for dim in space}
    return {key: value for key, value in found.items() if known[key].holds(value)}


def _comparable(settings: RunSettings) -> dict[str, Any]:
    """Return the settings without those that differ between the machines of a search."""
    return settings.model_dump(mode="json", exclude={"tracking", "device"})


def _announce(
    request: SearchRequest, queue: TrialQueue, splits: Sequence[Split], new: bool
) -> None:
    word, state = "Beginning" if new else "Going on with", queue.state()
    logger.info(
        "%s the study %s in %s: %d of %d trials have ended.", word, request.study,
        queue.storage.name, state.finished, state.total,
    )  # fmt: skip
    for dim in request.space:
        logger.info("  %s: %s", dim.key, dim)
    if splits:
        train, val, test = (len(splits[0].side(side)) for side in ("train", "val", "test"))
        logger.info(
            "Each trial trains on %d cases and is judged on %d; the %d cases of the test part are "
            "not read.", train, val, test,
        )  # fmt: skip
    if len(request.objectives) > 1:
        logger.info("With several objectives no trial is pruned, because Optuna cannot do both.")


def _plan(
    request: SearchRequest, settings: RunSettings, data: SearchData, objectives: tuple[str, ...],
    tracker: RunTracker,
) -> TrialPlan:  # fmt: skip
    tracking = settings.tracking.changed(parent=tracker.run_id or None)
    return TrialPlan(
        storage_url(request.storage, request.out), request.study, request.out.absolute(),
        data.data, settings.changed(tracking=tracking), data.splits,
        request.space, objectives, settings.seed,
    )  # fmt: skip


def _finish(
    request: SearchRequest, queue: TrialQueue, splits: Sequence[Split],
    objectives: tuple[str, ...],
) -> SearchResult:  # fmt: skip
    front = pareto_front(queue.study, queue.trials())
    state = queue.state()
    if not front:
        raise _failed(request, queue, state)
    best = front[0]
    preset = write_preset(queue.study, best, request.out / PRESET)
    report = _report(queue, request.out)
    sides = ("train", "val", "test") if splits else ()
    cases = {side: len(splits[0].side(side)) for side in sides}
    return SearchResult(
        request.out, request.study, state, describe_trial(best, list(objectives)),
        tuple(trial.number for trial in front), preset, report, cases,
    )  # fmt: skip


def _failed(request: SearchRequest, queue: TrialQueue, state: QueueState) -> SearchFailed:
    if not state.finished:
        return SearchFailed(
            "No trial has ended yet.",
            hint="The same command goes on; give it more --minutes, or each trial less --budget.",
        )
    errors = [trial.user_attrs.get("error") for trial in queue.trials()]
    first = next((error for error in errors if error), None)
    why = f" The first failed because: {first}" if first else ""
    where = f"--out {request.out}" if request.storage is None else f"--storage {queue.storage.name}"
    place = f"{where} --study {request.study}"
    return SearchFailed(
        f"None of {state.finished} trials has a result: {state.failed} failed and {state.pruned} "
        f"were pruned.{why}",
        hint=f"All are kept; look at them with: medseg-nca search status {place}. Narrow the space "
        "(a lower training.lr), or give each trial a larger --budget.",
    )


def _report(queue: TrialQueue, out: Path) -> Path | None:
    """Make the report; a failure is only a warning, because the trials are kept."""
    try:
        return search_report.run(queue.study, out)
    except Exception as error:  # nothing of the search is lost without its report
        logger.warning("There is no report: %s: %s", type(error).__name__, error)
        return None
