"""The trials that wait: taken by one worker each, and put back if the worker is gone.

A trial that is put back keeps its number and its values. So a trial is never lost, and none that
has ended is run again.
"""

from __future__ import annotations

import itertools
import json
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._rdb import models
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medseg_nca.errors import MedsegError
from medseg_nca.search.owner import BEAT, LifeWatch, Owner
from medseg_nca.search.storage import SearchStorage
from medseg_nca.search.study import wanted_trials

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
        return self.storage.call(lambda: wanted_trials(self.study))

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
            if trial.state == TrialState.WAITING and self._change(
                trial, TrialState.RUNNING, {OWNER: str(owner)}
            ):
                return trial
        return None

    def put_back(self, trial: FrozenTrial, owner: Owner) -> bool:
        """Let a trial wait again that its worker gave up; return whether it was that worker's."""
        now = self._now(trial)
        if now.state != TrialState.RUNNING or now.user_attrs.get(OWNER) != str(owner):
            return False
        return self._change(now, TrialState.WAITING, {OWNER: ""})

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
            if lost < MOST_LOST:
                put_back = self._change(trial, TrialState.WAITING, {OWNER: "", LOST: lost})
                if not put_back:
                    continue
                logger.warning("The worker of trial %d is gone; the trial waits again.",
                               trial.number)  # fmt: skip
            else:
                text = f"{lost} workers were killed at it, probably for want of memory"
                if not self._change(trial, TrialState.FAIL, {LOST: lost, ERROR: text}):
                    continue
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

    def _now(self, trial: FrozenTrial) -> FrozenTrial:
        number = self.id_of(trial.number)
        found: FrozenTrial = self.storage.call(lambda: self.storage.rdb.get_trial(number))
        return found

    def _change(self, seen: FrozenTrial, state: TrialState, attributes: Mapping[str, Any]) -> bool:
        """Change a trial in one transaction, unless another process has changed it before.

        Args:
            seen: the trial as it was read; its state, owner and lost workers are compared.
            state: its new state.
            attributes: its new attributes.

        Returns:
            Whether the trial is changed.
        """
        number, tries = self.id_of(seen.number), itertools.count()

        def change() -> bool:
            again = next(tries) > 0
            with self.storage.transaction() as session:
                trial = models.TrialModel.find_or_raise_by_id(number, session, for_update=True)
                stored = models.TrialUserAttributeModel.where_trial_id(number, session)
                rows = {row.key: row for row in stored}
                now = {key: json.loads(row.value_json) for key, row in rows.items()}
                # The try before this one may have arrived although it failed.
                if again and trial.state == state and {**now, **attributes} == now:
                    return True
                same = all(now.get(key) == seen.user_attrs.get(key) for key in (OWNER, LOST))
                if trial.state != seen.state or not same:
                    return False
                for key, value in attributes.items():
                    row = rows.get(key) or models.TrialUserAttributeModel(trial_id=number, key=key)
                    row.value_json = json.dumps(value)
                    session.add(row)
                trial.state = state
                if state == TrialState.RUNNING:
                    trial.datetime_start = datetime.now()
                if state.is_finished():
                    trial.datetime_complete = datetime.now()
                return True

        return self.storage.call(change)


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
