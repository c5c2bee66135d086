"""Train one trial of a search, and tell its study what came of it."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import statistics
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from medseg_nca.benchmark.timing import Effort, measure
from medseg_nca.config import RunSettings
from medseg_nca.cores import cores
from medseg_nca.errors import DataError, Interrupted, MedsegError, OutputError
from medseg_nca.inference.bundle import pick_device
from medseg_nca.io.atomic import write_json
from medseg_nca.job import Job
from medseg_nca.pipelines import train
from medseg_nca.pipelines.run_folder import CHECKPOINTS, MODEL, SETTINGS
from medseg_nca.pipelines.search_curve import Curve
from medseg_nca.pipelines.train import RunResult
from medseg_nca.search.check import LATENCY, PARAMETERS, has_curve
from medseg_nca.search.owner import Owner
from medseg_nca.search.queue import ERROR, LOST, OWNER, SignsOfLife, TrialQueue
from medseg_nca.search.space import Space, with_values
from medseg_nca.search.storage import SearchStorage, SearchStorageError
from medseg_nca.search.study import IDENTITY, study_for_trial
from medseg_nca.tasks import TASKS, Task
from medseg_nca.training.checkpoint import has_checkpoint

logger = logging.getLogger(__name__)

TRIALS = "trials"
# File in the folder of a trial that says whose it is.
MARK = "trial.json"
# File there that says that the last worker was not killed: the storage did not answer to it.
GAVE_UP = "gave_up"
_ODD = re.compile(r"[^A-Za-z0-9_.-]")
# Predictions of which the latency is the median, after one to warm up.
_PREDICTIONS = 5


@dataclass(frozen=True)
class TrialPlan:
    """What every worker of a search must know; it is sent to worker processes.

    Attributes:
        url: URL of the storage, with its password.
        study: name of the study.
        out: folder of the search.
        data: what the trainings are given as data set; None if the task needs none.
        settings: the settings that a trial begins from.
        splits: a file with the split of each fold, without a test part; empty if the task divides
            no data.
        space: the dimensions.
        objectives: names of the objectives.
        seed: seed of the search.
    """

    url: str
    study: str
    out: Path
    data: Path | None
    settings: RunSettings
    splits: tuple[Path, ...]
    space: Space
    objectives: tuple[str, ...]
    seed: int

    @property
    def folds(self) -> int:
        """The number of trainings of a trial."""
        return max(len(self.splits), 1)

    def trial_folder(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.out / TRIALS / folder_name(self.study) / f"{number:04d}"

    def folder(self, number: int, fold: int) -> Path:
        """Return the run folder of a trial; with folds each has one."""
        folder = self.trial_folder(number)
        return folder / f"fold_{fold}" if self.folds > 1 else folder

    def settings_of(self, number: int, fold: int, values: dict[str, Any]) -> RunSettings:
        """Return the settings of one training of a trial.

        Raises:
            ConfigError: if the values do not fit each other.
        """
        settings = with_values(self.settings, values, f"Trial {number}")
        # Trials are compared by their scores alone, and their models serve nobody.
        settings = settings.changed(trust=settings.trust.changed(fit=False))
        name = f"{settings.name}_trial{number:04d}"
        if not self.splits:
            return settings.changed(name=name)
        split = settings.data.split.changed(
            file=self.splits[fold], listed_only=True, folds=None, fold=None
        )
        name = f"{name}_fold{fold}" if self.folds > 1 else name
        return settings.changed(name=name, data=settings.data.changed(split=split))


class TrialWork:
    """Does trials, one after the other.

    Args:
        plan: what is searched.
        storage: the storage of the study.
        job: asked whether to go on.
    """

    def __init__(self, plan: TrialPlan, storage: SearchStorage, job: Job) -> None:
        self.plan, self.storage, self.job = plan, storage, job
        self.queue = TrialQueue(storage, plan.study)
        self.owner = Owner.of_this_process()

    def run_next(self) -> int | None:
        """Do the next trial that waits, and return its number; None if no trial waits.

        A trial that another worker has taken over, because this one gave no sign of life for too
        long, is left to it.

        Raises:
            Interrupted: if the job was cancelled; the trial waits again, its state is kept.
            SearchStorageError: if the storage does not answer.
            OutputError: if results cannot be written; the trial waits again.
        """
        self.job.check()
        taken = self.queue.take(self.owner)
        if taken is None:
            return None
        number, job, lost = int(taken.number), Job(), threading.Event()

        def end() -> None:
            lost.set()
            job.cancel("Another worker has taken the trial over.")

        with (
            self.job.when_cancelled(lambda: job.cancel(self.job.reason or "Stopped.")),
            SignsOfLife(self.queue, number, self.owner, end),
        ):
            try:
                self._run(taken, job)
            except (Interrupted, OutputError, KeyboardInterrupt) as error:
                if lost.is_set() and isinstance(error, Interrupted):
                    self.job.check()
                    logger.warning("Trial %d: %s", number, job.reason)
                    return number
                self.queue.put_back(taken, self.owner)
                raise
            except SearchStorageError:
                with suppress(OSError):
                    (self.plan.trial_folder(number) / GAVE_UP).touch()
                raise
        return number

    def _run(self, taken: FrozenTrial, job: Job) -> None:
        plan, number = self.plan, taken.number
        started = time.monotonic()
        study = study_for_trial(self.storage, plan.study, plan.seed, number)
        trial = self.storage.call(lambda: Trial(study, self.queue.id_of(number)))
        values = {dim.key: self.storage.call(lambda d=dim: d.suggest(trial)) for dim in plan.space}  # type: ignore[misc]
        self.queue.note(number, "run", str(plan.folder(number, 0).absolute()))
        self._make_own(study, taken, values)
        state, reached = TrialState.FAIL, None
        try:
            reached = self._trained(trial, values, job)
            state = TrialState.PRUNED if reached is None else TrialState.COMPLETE
        except (Interrupted, OutputError, SearchStorageError):
            raise
        except MedsegError as error:
            self.queue.note(number, ERROR, error.message)
        except Exception as error:  # one strange trial must not cost the others
            logger.debug("Unexpected failure:\n%s", traceback.format_exc())
            self.queue.note(number, ERROR, f"unexpected {type(error).__name__}: {error}")
        self.queue.note(number, "seconds", round(time.monotonic() - started, 2))
        self._tell(trial, state, reached)
        for fold in range(plan.folds):
            shutil.rmtree(plan.folder(number, fold) / CHECKPOINTS, ignore_errors=True)

    def _make_own(self, study: Study, taken: FrozenTrial, values: dict[str, Any]) -> None:
        """Make the folder of a trial; one of another study or with other values is emptied."""
        number = taken.number
        folder = self.plan.trial_folder(number)
        identity = self.storage.call(lambda: study.user_attrs).get(IDENTITY)
        mark = {"study": self.plan.study, "identity": identity, "trial": number, "values": values}
        try:
            found = json.loads((folder / MARK).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if found == json.loads(json.dumps(mark)):
            if (folder / GAVE_UP).exists():
                lost = int(taken.user_attrs.get(LOST, 0))
                self.queue.note(number, LOST, max(lost - 1, 0))
                (folder / GAVE_UP).unlink(missing_ok=True)
            return
        try:
            if folder.exists():
                shutil.rmtree(folder)
        except OSError as error:
            raise OutputError(
                f"{folder}: is of another search and cannot be removed ({error.strerror}).",
                hint="Remove it, or give another --out.",
            ) from error
        write_json(folder / MARK, mark)

    def _tell(self, trial: Trial, state: TrialState, values: Sequence[float] | None) -> None:
        def tell() -> None:
            # The call before this one may have arrived although it failed.
            frozen = next(t for t in self.queue.trials() if t.number == trial.number)
            own = frozen.user_attrs.get(OWNER) == str(self.owner)
            if frozen.state == TrialState.RUNNING and own:
                trial.study.tell(trial, None if values is None else list(values), state=state)

        try:
            self.storage.call(tell)
        except UpdateFinishedTrialError:
            logger.debug("Trial %d has ended elsewhere.", trial.number)

    def _trained(self, trial: Trial, values: dict[str, Any], job: Job) -> list[float] | None:
        """Train all folds, and return the value of each objective; None if pruned."""
        results: list[RunResult] = []
        for fold in range(self.plan.folds):
            result = self._trained_fold(trial, fold, values, job)
            if result is None:
                return None
            results.append(result)
            self.queue.note(trial.number, PARAMETERS, results[0].parameters)
        score = statistics.fmean(result.training.best_score for result in results)
        if score != score:
            raise DataError("there is nothing to validate on, so the trial has no score.")
        found = {PARAMETERS: float(results[0].parameters)}
        if LATENCY in self.plan.objectives:
            found[LATENCY] = statistics.median(
                latency_ms(TASKS.get(result.task), result.run, self.plan.settings.device)
                for result in results
            )
        return [found.get(name, score) for name in self.plan.objectives]

    def _trained_fold(
        self, trial: Trial, fold: int, values: dict[str, Any], job: Job
    ) -> RunResult | None:
        plan, number = self.plan, trial.number
        folder = plan.folder(number, fold)
        settings = plan.settings_of(number, fold, values)
        # A worker that was stopped or killed leaves the state of its training.
        resume = (folder / SETTINGS).exists() and has_checkpoint(folder / CHECKPOINTS)
        curve = Curve(
            trial, self.storage, fold, told=has_curve(plan.objectives),
            by_time=settings.training.max_minutes is not None,
        )  # fmt: skip
        with job.when_cancelled(lambda: curve.job.cancel(job.reason or "Stopped.")):
            try:
                return train.run(
                    plan.data, folder, settings, resume=resume, job=curve.job, draw=False
                )
            except Interrupted:
                if curve.fault is not None:
                    raise curve.fault from None
                if curve.pruned:
                    return None
                if not job.cancelled:  # a signal came to the training itself
                    self.job.cancel(curve.job.reason or "Stopped.")
                raise


def folder_name(study: str) -> str:
    """Return a name for the folder of a study.

    It is the study's own where that is safe and short, else what can be kept of it and a hash.
    """
    kept = _ODD.sub("-", study)[:40].strip(".- ")
    if kept == study:
        return kept
    return f"{kept}-{hashlib.sha256(study.encode()).hexdigest()[:8]}".lstrip("-")


def latency_ms(task: Task, run: Path, device: str) -> float:
    """Return how long a prediction takes, in milliseconds: the median of several.

    The input is the image, made from a formula, of which models keep their stored answer; all
    trials of a search have the same.
    """
    model = task.load(run / MODEL, device)
    effort = Effort(threads=cores(), repeats=_PREDICTIONS)
    kind = pick_device(device).type
    return 1000 * measure(lambda: task.make_reference(model), effort, kind)["seconds"]
