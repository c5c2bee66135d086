"""The trials that wait: taken by one worker each, and put back if the worker is gone.

A trial that is put back keeps its number and its values. So a trial is never lost, and none that
has ended is run again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medseg_nca.errors import MedsegError
from medseg_nca.search.owner import BEAT, LifeWatch, Owner
from medseg_nca.search.storage import SearchStorage

logger = logging.getLogger(__name__)

OWNER, SIGN, LOST, ERROR = "worker", "sign_of_life", "workers_lost", "error"
# So many workers may be killed at one trial before it counts as failed.
MOST_LOST = 5
# Seconds to wait for the thread that gives signs of life.
_JOIN = 1.0


@dataclass(frozen=True)
class QueueState:
    """How many trials of a study are in which state."""

    waiting: int
    running: int
    complete: int
    pruned: int
    failed: int

    @property
    def finished(self) -> int:
        """The number of trials that ended in any way."""
        return self.complete + self.pruned + self.failed

    @property
    def total(self) -> int:
        """The number of all trials."""
        return self.waiting + self.running + self.finished


class TrialQueue:
    """The trials of one study, in its storage.

    Args:
        storage: where the study is.
        name: name of the study.
    """

    def __init__(self, storage: SearchStorage, name: str) -> None:
        self.storage = storage
        self.study: Study = storage.call(
            lambda: optuna.load_study(study_name=name, storage=storage.rdb)
        )
        self.number = storage.call(lambda: storage.rdb.get_study_id_from_name(name))
        self.watch = LifeWatch()

    def trials(self) -> list[FrozenTrial]:
        """Return all trials, in their order."""
        return self.storage.call(lambda: self.study.get_trials(deepcopy=False))

    def state(self) -> QueueState:
        """Return how many trials are in which state."""
        states = [trial.state for trial in self.trials()]
        return QueueState(
            states.count(TrialState.WAITING), states.count(TrialState.RUNNING),
            states.count(TrialState.COMPLETE), states.count(TrialState.PRUNED),
            states.count(TrialState.FAIL),
        )  # fmt: skip

    def take(self, owner: Owner) -> FrozenTrial | None:
        """Take the first trial that waits, if any; no other worker gets it."""
        for trial in self.trials():
            if trial.state == TrialState.WAITING and self._set_state(trial, TrialState.RUNNING):
                self.note(trial.number, OWNER, str(owner))
                return trial
        return None

    def put_back(self, trial: FrozenTrial) -> None:
        """Let a trial wait again that its worker gave up."""
        # Whoever takes it is its owner only a moment later; until then nobody is, dead or alive.
        self.note(trial.number, OWNER, "")
        self._set_state(trial, TrialState.WAITING)

    def rescue(self) -> list[FrozenTrial]:
        """Put back the trials whose workers are dead, and return them.

        A trial whose workers were killed again and again fails.
        """
        found = []
        for trial in self.trials():
            if trial.state != TrialState.RUNNING:
                continue
            owner = Owner.parsed(trial.user_attrs.get(OWNER))
            if not self.watch.is_dead(trial.number, owner, trial.user_attrs.get(SIGN)):
                continue
            lost = int(trial.user_attrs.get(LOST, 0)) + 1
            self.note(trial.number, LOST, lost)
            if lost < MOST_LOST:
                self.put_back(trial)
                logger.warning("The worker of trial %d is gone; the trial waits again.",
                               trial.number)  # fmt: skip
            else:
                text = f"{lost} workers were killed at it, probably for want of memory"
                self.note(trial.number, ERROR, text)
                self._set_state(trial, TrialState.FAIL)
            found.append(trial)
        return found

    def note(self, number: int, key: str, value: Any) -> None:
        """Set an attribute of a trial; one that has ended stays as it is."""
        with suppress(UpdateFinishedTrialError):
            self.storage.call(
                lambda: self.storage.rdb.set_trial_user_attr(self.id_of(number), key, value)
            )

    def id_of(self, number: int) -> int:
        """Return the number that the storage itself gives to a trial."""
        rdb = self.storage.rdb
        found: int = self.storage.call(
            lambda: rdb.get_trial_id_from_study_id_trial_number(self.number, number)
        )
        return found

    def owner_of(self, number: int) -> Owner | None:
        """Return the owner of a trial."""
        trial = self.storage.call(lambda: self.storage.rdb.get_trial(self.id_of(number)))
        return Owner.parsed(trial.user_attrs.get(OWNER))

    def _set_state(self, trial: FrozenTrial, state: TrialState) -> bool:
        number = self.id_of(trial.number)
        try:
            changed: bool = self.storage.call(
                lambda: self.storage.rdb.set_trial_state_values(number, state=state)
            )
        except UpdateFinishedTrialError:  # it has ended meanwhile
            return False
        return changed


class SignsOfLife:
    """Gives signs of life of a trial's worker, in a thread, during the block.

    Args:
        queue: the trials.
        trial: number of the trial.
        owner: its worker.
        lost: called if the trial has another owner, because this one was taken for dead.
    """

    def __init__(
        self, queue: TrialQueue, trial: int, owner: Owner, lost: Callable[[], None]
    ) -> None:
        self._queue, self._trial, self._owner, self._lost = queue, trial, owner, lost
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="signs of life", daemon=True)

    def __enter__(self) -> SignsOfLife:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(_JOIN)  # it may wait for a storage that does not answer

    def _beat(self) -> None:
        count = 0
        while not self._end.wait(BEAT):
            count += 1
            with suppress(MedsegError, UpdateFinishedTrialError):  # the work itself will notice it
                if self._queue.owner_of(self._trial) != self._owner:
                    self._lost()
                    return
                self._queue.note(self._trial, SIGN, f"{self._owner} {count}")
