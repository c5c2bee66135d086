"""The validation curve of a trial: told to its study while the trial trains, and judged there."""

from __future__ import annotations

import math

from optuna.trial import Trial

from medseg_nca.errors import MedsegError
from medseg_nca.job import Job, Progress
from medseg_nca.search.storage import SearchStorage

_PHASE, _VALIDATED = "training", "val_"
_END = 100  # percent of the budget


class Curve:
    """Listens to one training of a trial, and ends it if the trial is pruned.

    Args:
        trial: the trial.
        storage: where its study is.
        fold: number of the fold, from 0; the curves of the folds follow each other.
        told: whether the study takes curves, as :func:`~medseg_nca.search.check.has_curve` says.
        by_time: whether the budget is a time. Each training is then validated at percentages of its
            own, and Optuna compares equal ones only, so they are rounded down to tens.

    Attributes:
        job: the job to hand to the training.
        pruned: whether the trial was pruned.
        fault: why the study could not be told; the training was ended because of it.
    """

    def __init__(
        self, trial: Trial, storage: SearchStorage, fold: int, told: bool, by_time: bool
    ) -> None:
        self.job = Job(self.listen)
        self.pruned = False
        self.fault: MedsegError | None = None
        self._trial, self._storage = trial, storage
        self._told, self._by_time = told, by_time
        self._first = _END * fold
        self._last = -1

    def listen(self, progress: Progress) -> None:
        """Take a report of the training: the first number of a validation is its score."""
        name = next((name for name in progress.facts if name.startswith(_VALIDATED)), None)
        if progress.phase != _PHASE or name is None or not self._told or not progress.total:
            return
        share = progress.done / progress.total
        percent = 10 * math.floor(10 * share + 1e-6) if self._by_time else round(_END * share)
        score = progress.facts[name]
        if percent <= self._last or score != score:  # NaN: there was nothing to measure
            return
        self._last = percent
        try:
            self._tell(score, percent)
        except MedsegError as error:
            self.fault = error
            self.job.cancel(error.message)

    def _tell(self, score: float, percent: int) -> None:
        self._storage.call(lambda: self._trial.report(score, self._first + percent))
        if percent < _END and self._storage.call(self._trial.should_prune):
            self.pruned = True
            self.job.cancel("The trial is pruned.")
