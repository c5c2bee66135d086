"""Series that have arrived become jobs, once they are complete and each content of them once.

A series is complete when nothing of it has arrived for a while, or when it has as many instances as
one of its tags says. What comes later makes another content of the same series, and so a job more,
whose results say which version they are.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from medseg_nca.io.dicom.scan import read_files
from medseg_nca.serving.catalogue import ServedEntry
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.jobs.records import JobOptions, new_id
from medseg_nca.serving.jobs.service import JobService
from medseg_nca.serving.node.completeness import Completeness
from medseg_nca.serving.node.ledger import (
    REMOVED,
    Ledger,
    SeriesNote,
    SubmittedJob,
    fingerprint,
    job_id,
)
from medseg_nca.serving.node.routes import Choice, Route, choose, series_of
from medseg_nca.serving.node.spool import Spool, SpooledSeries

logger = logging.getLogger(__name__)

# Seconds between two looks at series that arrive, and between two looks at the whole spool.
_LOOK, _WHOLE = 0.5, 60.0
# The longest pause after a look: it is as long as the look took, so that many do not take all time.
_LONGEST = 5.0


@dataclass(frozen=True)
class Rules:
    """What is made of series.

    Attributes:
        routes: which model computes which series.
        served: the entry of the catalogue for each model of the routes.
        options: of every job; its objects are the formats of the results.
    """

    routes: Sequence[Route]
    served: Mapping[str, ServedEntry]
    options: JobOptions = field(default_factory=lambda: JobOptions(kind="dicom"))

    @cached_property
    def fingerprint(self) -> str:
        """Of the routes: other ones may take a series that these do not."""
        return fingerprint([route.text for route in self.routes])

    def plan(self, route: Route) -> str:
        """Fingerprint of what a route makes of a series."""
        return fingerprint(route.models, self.options.objects)


class Arrivals(threading.Thread):
    """Looks at the spool, and submits a job for each model of the rule that takes a series.

    A process that is killed between any two steps leaves what the next one goes on from: the spool
    has the series, the database has which of its jobs were submitted (see :mod:`.ledger`).

    Args:
        spool: where series arrive.
        ledger: what was done with them.
        service: takes the jobs. Where its queue is full, series wait.
        rules: what is made of them.
        completeness: when a series is complete.
        chores: called after each look, for what else is done now and then.
    """

    def __init__(
        self, spool: Spool, ledger: Ledger, service: JobService, rules: Rules,
        completeness: Completeness, chores: Sequence[Callable[[], object]] = (),
    ) -> None:  # fmt: skip
        super().__init__(name="arrivals", daemon=True)
        self._spool, self._ledger, self._service = spool, ledger, service
        self._rules, self._completeness, self._chores = rules, completeness, chores
        self._lock, self._stop_asked = threading.Lock(), threading.Event()
        # Series that are looked at again, and who sent each.
        self._pending: set[str] = set()
        self._callers: dict[str, str] = {}
        self._whole, self._told = float("-inf"), ""

    def arrived(self, key: str, aet: str) -> None:
        """Note that an instance of a series was kept; safe in any thread.

        Args:
            key: of the series in the spool.
            aet: AE title of the sender.
        """
        with self._lock:
            self._pending.add(key)
            known = self._callers.get(key) == aet
        if not known:
            self._ledger.called(key, aet)
            with self._lock:
                self._callers[key] = aet

    def look_again(self, key: str) -> None:
        """Decide on a series at the next look, whatever was decided before."""
        with self._lock:
            self._pending.add(key)

    @property
    def waiting(self) -> int:
        """Series that are not complete yet, or wait for a place in the queue."""
        with self._lock:
            return len(self._pending)

    def stop(self) -> None:
        """End after the series at hand; the next process looks at the others."""
        self._stop_asked.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Look until the node stops."""
        while not self._stop_asked.is_set():
            began = time.monotonic()
            self.look()
            self._stop_asked.wait(min(max(time.monotonic() - began, _LOOK), _LONGEST))

    def look(self) -> None:
        """Submit what is complete; whatever goes wrong with a series is tried at the next look."""
        try:
            if time.monotonic() - self._whole > _WHOLE:
                there, notes = self._spool.series(), self._ledger.series()
                everything = {series.key for series in there
                              if not self._is_decided(series, notes.get(series.key))}  # fmt: skip
                self._whole = time.monotonic()
                with self._lock:
                    self._pending |= everything
            self._submit_complete()
        except Exception as error:
            self._tell(f"The spool cannot be looked at ({type(error).__name__}).")
        for chore in self._chores:
            try:
                chore()
            except Exception as error:
                self._tell(
                    "What is asked of the node, or what is old, cannot be dealt with "
                    f"({type(error).__name__})."
                )

    def _submit_complete(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, set()
        left = set(pending)
        try:
            if pending:
                self._service.room()  # where the queue is full, nothing is looked at in vain
            found = [one for key in pending if (one := self._spool.find(key)) is not None]
            left = {one.key for one in found}
            for series in sorted(found, key=lambda one: (one.last, one.key)):
                if self._stop_asked.is_set():
                    break
                if self._is_done(series):
                    left.discard(series.key)
        except Refused:  # the queue is full, or the server stops
            pass
        finally:
            with self._lock:
                self._pending |= left
                for key in pending - self._pending:
                    self._callers.pop(key, None)

    def _is_done(self, series: SpooledSeries) -> bool:
        """Whether nothing is left to do for a series as it is now; does what there is to do."""
        try:
            note = self._ledger.of_series(series.key)
            if self._is_decided(series, note):
                return True
            if not self._completeness.holds(series, self._spool):
                return False
            self._service.room()
            return self._take(series, note)
        except Refused:
            raise
        except Exception as error:  # for example a full disk; the other series have their turn
            self._tell(f"A series of the node has to wait ({type(error).__name__}).")
            return False

    def _is_decided(self, series: SpooledSeries, note: SeriesNote | None) -> bool:
        """Whether these rules have decided on a series as it is now."""
        if note is None or not note.outcome or note.signature != series.signature:
            return False
        return note.outcome == "submitted" or note.rules == self._rules.fingerprint

    def _take(self, series: SpooledSeries, before: SeriesNote) -> bool:
        folder = self._new_folder()
        try:
            digest = self._spool.copy_to(series.key, folder)
            scan = read_files(sorted(folder.iterdir()))
            choice = choose(self._rules.routes, series_of(scan, series.series_uid))
            if choice.route is None:
                self._not_taken(series, digest, choice, before)
                return True
            return self._submit(series, digest, folder, choice.route, before)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _submit(
        self, series: SpooledSeries, digest: str, folder: Path, route: Route, before: SeriesNote
    ) -> bool:
        """Submit those jobs of a series that were not submitted yet."""
        jobs = self._ledger.jobs(series.key)
        same = [job for job in jobs if job.digest == digest]
        version = same[0].version if same else max((job.version for job in jobs), default=0) + 1
        plan, options = self._rules.plan(route), self._rules.options
        # What was computed by earlier rules is not computed again because the rules have changed.
        if all(job.plan in (plan, "") for job in same):
            select = route.conditions if route.selection.of_stacks else ""
            note = f"version {version}" if version > 1 else ""
            if note and before.reason == REMOVED:
                note += ", earlier images removed"
            options = replace(options, select=select, note=note)
            for model in route.models:
                reference = self._rules.served[model].reference
                job = job_id(series.key, digest, reference, options.objects, select)
                if self._ledger.job(job) is not None:
                    continue
                if not folder.exists() and self._spool.copy_to(series.key, folder) != digest:
                    return False  # more has come meanwhile, which is another version
                line = SubmittedJob(
                    job, series.key, digest, version, plan, self._completeness.clock()
                )
                self._add(series, line, folder, options, self._rules.served[model].name)
        reason = REMOVED if before.reason == REMOVED else ""
        self._note(series, digest, SeriesNote(series.key, outcome="submitted", reason=reason))
        return True

    def _add(
        self, series: SpooledSeries, job: SubmittedJob, folder: Path, options: JobOptions,
        model: str,
    ) -> None:  # fmt: skip
        owner = f"node:{self._ledger.of_series(series.key).aet}"
        audit = self._service.parts.audit
        name = audit.name(series.series_uid)
        self._service.submit(
            job.job, folder, options, owner=owner, model=model, series=name,
            also=self._ledger.submitting(job),
        )  # fmt: skip
        audit.write(
            "series", user=owner, outcome="submitted", job=job.job, series=name, model=model,
            version=job.version,
        )  # fmt: skip

    def _not_taken(
        self, series: SpooledSeries, digest: str, choice: Choice, before: SeriesNote
    ) -> None:
        reason = choice.refused or " ".join(
            f"Rule {number} fails by {', '.join(verdict.keywords)}."
            for number, verdict in enumerate(choice.verdicts, 1)
        )
        self._note(series, digest, SeriesNote(series.key, outcome="not taken", reason=reason))
        if (before.outcome, before.digest, before.reason) != ("not taken", digest, reason):
            audit = self._service.parts.audit
            audit.write(
                "series", user=f"node:{before.aet}", outcome="not taken",
                series=audit.name(series.series_uid), reason=reason,
            )  # fmt: skip

    def _note(self, series: SpooledSeries, digest: str, note: SeriesNote) -> None:
        rules = self._rules.fingerprint
        self._ledger.note(replace(note, signature=series.signature, digest=digest, rules=rules))

    def _new_folder(self) -> Path:
        return self._service.parts.store.incoming / new_id()

    def _tell(self, text: str) -> None:
        """Log a fault once, not at every look."""
        if text != self._told:
            logger.error("%s", text)
        self._told = text
