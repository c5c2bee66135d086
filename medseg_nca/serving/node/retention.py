"""What a node does not keep: series whose time is over, and what is known of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.jobs.deliveries import DeliveryState
from medseg_nca.serving.jobs.store import JobStore
from medseg_nca.serving.node.ledger import Ledger, SeriesNote
from medseg_nca.serving.node.spool import Spool, SpooledSeries

DAY = 86400.0
# Days that a series is kept whose job failed by a fault of the node, and not of the series, so that
# it can be tried again; and that a series is known that was removed.
_LEAST = 1.0
# Seconds between two sweeps, where nothing is kept and where series are kept for days.
_SOON, _LATER = 1.0, 60.0
# A sweep of many series takes one part in so many of the time at most.
_SHARE = 10


class Retention:
    """Removes series that were decided on, when all of their jobs are over.

    A job is over when it has failed and that was reported, or when its results were delivered, or
    given up, everywhere. The jobs themselves go after their time as all jobs of a server do, and
    so do results that were given up: they can be sent again until then.

    Args:
        spool: of the series.
        ledger: what was done with them.
        store: of the jobs.
        keep: days that a series is kept after its last instance; with 0 it is removed as soon as
            its jobs are over, and the files of results that were delivered, too.
        audit: gets a line for each series.
        clock: seconds since 1970.
    """

    def __init__(
        self, spool: Spool, ledger: Ledger, store: JobStore, keep: float, audit: AuditLog,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._spool, self._ledger, self._store = spool, ledger, store
        self._keep, self._audit, self._clock = keep, audit, clock
        self._due = float("-inf")

    def sweep_when_due(self) -> None:
        """Remove what is to go now, at most once a minute where series are kept for days."""
        began = time.monotonic()
        if began >= self._due:
            self.sweep()
            took = time.monotonic() - began
            self._due = began + max(_SOON if self._keep == 0 else _LATER, _SHARE * took)

    def sweep(self) -> None:
        """Remove what is to go now."""
        there, notes = self._spool.series(), self._ledger.series()
        gone = {series.key for series in there if self._remove(series, notes.get(series.key))}
        # A series that is sent once more on the same day is not computed twice.
        kept = (series.key for series in there if series.key not in gone)
        self._ledger.forget(kept, max(self._keep, _LEAST) * DAY)

    def _remove(self, series: SpooledSeries, note: SeriesNote | None) -> bool:
        age = self._clock() - series.last
        if age < self._keep * DAY:
            return False
        if note is None or not note.outcome or note.signature != series.signature:
            return False  # nobody has decided on it, as it is now
        jobs = [job.job for job in self._ledger.jobs(series.key)]
        if not all(self._is_over(job) for job in jobs):
            return False
        if age < _LEAST * DAY and any(self._is_our_fault(job) for job in jobs):
            return False
        return self._drop(series, note)

    def _drop(self, series: SpooledSeries, note: SeriesNote) -> bool:
        if self._keep == 0:  # before the series, so that a kill leaves it to be found again
            for job in self._ledger.jobs(series.key):
                if not self._ended(job.job, "failed"):
                    shutil.rmtree(self._store.folder(job.job), ignore_errors=True)
        if not self._spool.remove(series.key, note.digest):
            return False
        self._ledger.removed(series.key)
        self._audit.write("series", outcome="removed", series=self._audit.name(series.series_uid))
        return True

    def _is_over(self, job: str) -> bool:
        """Whether nothing more becomes of a job, nor of its results."""
        ended = self._ended(job, "stored") + self._ended(job, "failed")
        record = self._store.get(job)
        if record is None or record.state == "cancelled":
            return True
        is_sent = record.state == "done" or "file" in record.result.get("notice", {})
        wanted = len(record.options.destinations) if is_sent else 0
        return record.is_finished and ended >= wanted

    def _is_our_fault(self, job: str) -> bool:
        """Whether a job failed by what may pass: its model, a worker, the time that it may take."""
        record = self._store.get(job)
        return record is not None and record.failure is not None and record.failure.status >= 500

    def _ended(self, job: str, state: DeliveryState) -> int:
        """How many deliveries of a job came to that end."""
        query = "SELECT COUNT(*) FROM deliveries WHERE job = ? AND state = ?"
        with self._store.transaction() as database:
            return int(database.execute(query, (job, state)).fetchone()[0])
