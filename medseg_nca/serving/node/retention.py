"""What a node does not keep: series whose time is over, and what is known of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.jobs.store import JobStore
from medseg_nca.serving.node.ledger import Ledger, SeriesNote
from medseg_nca.serving.node.spool import Spool, SpooledSeries

DAY = 86400.0
# Seconds between two sweeps, where nothing is kept and where series are kept for days.
_SOON, _LATER = 1.0, 60.0


class Retention:
    """Removes series that were decided on, when all of their jobs are over.

    A job is over when it has failed and that was reported, or when its results were delivered, or
    given up, everywhere. The jobs themselves go after their time as all jobs of a server do.

    Args:
        spool: of the series.
        ledger: what was done with them.
        store: of the jobs.
        keep: days that a series is kept after its last instance; with 0 it is removed as soon as
            its jobs are over, and the files of their results, too.
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
        now = time.monotonic()
        if now >= self._due:
            self._due = now + (_SOON if self._keep == 0 else _LATER)
            self.sweep()

    def sweep(self) -> None:
        """Remove what is to go now."""
        there = self._spool.series()
        gone = {series.key for series in there if self._remove(series)}
        # A series that is sent once more on the same day is not computed twice.
        kept = (series.key for series in there if series.key not in gone)
        self._ledger.forget(kept, max(self._keep, 1.0) * DAY)

    def _remove(self, series: SpooledSeries) -> bool:
        if self._clock() - series.last < self._keep * DAY:
            return False
        note = self._ledger.of_series(series.key)
        if not note.outcome or note.signature != series.signature:
            return False  # nobody has decided on it, as it is now
        if not all(self._is_over(job.job) for job in self._ledger.jobs(series.key)):
            return False
        return self._drop(series, note)

    def _drop(self, series: SpooledSeries, note: SeriesNote) -> bool:
        if self._keep == 0:  # before the series, so that a kill leaves it to be found again
            for job in self._ledger.jobs(series.key):
                shutil.rmtree(self._store.folder(job.job), ignore_errors=True)
        if not self._spool.remove(series.key, note.digest):
            return False
        self._audit.write("series", outcome="removed", series=self._audit.name(series.series_uid))
        return True

    def _is_over(self, job: str) -> bool:
        """Whether nothing more becomes of a job, nor of its results."""
        with self._store.transaction() as database:
            ended = database.execute(
                "SELECT COUNT(*) FROM deliveries WHERE job = ? AND state != 'waiting'", (job,)
            ).fetchone()[0]
        record = self._store.get(job)
        if record is None or record.state == "cancelled":
            return True
        is_sent = record.state == "done" or "file" in record.result.get("notice", {})
        wanted = len(record.options.destinations) if is_sent else 0
        return record.is_finished and int(ended) >= wanted
