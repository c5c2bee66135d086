"""Follow a search to its end: start workers, put lost trials back, tell of trials that end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from medseg_nca.errors import Interrupted
from medseg_nca.job import Job
from medseg_nca.pipelines.search_trial import TrialPlan, TrialWork
from medseg_nca.pipelines.search_workers import SearchWorkers, only_the_search_speaks
from medseg_nca.search.queue import TrialQueue
from medseg_nca.search.results import describe_trial

logger = logging.getLogger(__name__)

PHASE = "trials"
# Seconds between two looks at the storage, and between two looks for dead workers.
_LOOK, _RESCUE = 0.5, 2.0


class SearchWatch:
    """Follows a study to its end.

    Args:
        queue: the trials.
        job: gets the progress, in the phase "trials".
    """

    def __init__(self, queue: TrialQueue, job: Job) -> None:
        self.queue, self.job = queue, job
        self._told = {trial.number for trial in queue.trials() if trial.state.is_finished()}
        self._rescued = float("-inf")

    def run(self, plan: TrialPlan, workers: int, minutes: float | None) -> None:
        """Work until no trial waits or runs, here or elsewhere, or the time is up.

        Raises:
            Interrupted: if the job was cancelled before; all trials are kept.
            MedsegError: as :meth:`TrialWork.run_next` raises it.
        """
        up = threading.Event()

        def end() -> None:
            up.set()
            self.job.cancel("The time of the search is up.")

        timer = threading.Timer(60 * (minutes or 0), end)
        timer.daemon = True
        if minutes is not None:
            timer.start()
        try:
            if workers > 1:
                self._in_processes(plan, workers)
            else:
                self._in_this_process(plan)
        except Interrupted:
            self._look()
            if not up.is_set():
                raise self._stopped() from None
            logger.info("The time of the search is up; trials that were at work wait again.")
        finally:
            timer.cancel()

    def _stopped(self) -> Interrupted:
        state = self.queue.state()
        return Interrupted(
            f"{self.job.reason or 'Stopped.'} {state.finished} of {state.total} trials have ended "
            "and are kept; a trial that was at work keeps the state of its training.",
            hint="The same command goes on from here.",
        )

    def _in_this_process(self, plan: TrialPlan) -> None:
        worker = TrialWork(plan, self.queue.storage, self.job)
        while self._goes_on():
            with only_the_search_speaks():
                number = worker.run_next()
            if number is None:
                self._pause()
            self._look()

    def _in_processes(self, plan: TrialPlan, count: int) -> None:
        workers = SearchWorkers(plan, count)
        try:
            while self._goes_on():
                if workers.clear():
                    self.queue.rescue()
                workers.fill(self.queue.state().waiting)
                self._pause()
        finally:
            workers.stop()

    def _pause(self) -> None:
        end = time.monotonic() + _LOOK
        while time.monotonic() < end:
            self.job.check()
            time.sleep(0.05)

    def _goes_on(self) -> bool:
        """Put back the trials of dead workers; return whether a trial waits or runs."""
        self.job.check()
        if time.monotonic() - self._rescued > _RESCUE:
            self._rescued = time.monotonic()
            self.queue.rescue()
        self._look()
        state = self.queue.state()
        return state.waiting + state.running > 0

    def _look(self) -> None:
        """Tell of the trials that have ended since the last look."""
        trials = self.queue.trials()
        storage, study = self.queue.storage, self.queue.study
        objectives = storage.call(lambda: study.user_attrs)["objectives"]
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self._told:
                self._told.add(trial.number)
                logger.info("%s", in_a_line(trial, objectives))
        failed = sum(trial.state == TrialState.FAIL for trial in trials)
        with suppress(Interrupted):  # whoever works will notice it
            self.job.report(
                PHASE, len(self._told), len(trials), unit="trials", facts={"failed": failed}
            )


def in_a_line(trial: FrozenTrial, objectives: Sequence[str]) -> str:
    """Return one line on a trial that has ended."""
    row = describe_trial(trial, objectives)
    chosen = ", ".join(f"{key} {_shown(value)}" for key, value in row["params"].items())
    if trial.state == TrialState.FAIL:
        return f"Trial {trial.number} failed: {row['error'] or 'no reason is known'} ({chosen})"
    if trial.state == TrialState.PRUNED:
        return f"Trial {trial.number} was pruned at {_shown(row['last'])} ({chosen})"
    scores = ", ".join(f"{name} {_shown(value)}" for name, value in row["values"].items())
    return f"Trial {trial.number}: {scores} in {row['seconds'] or 0:.0f} s ({chosen})"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
