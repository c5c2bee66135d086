"""Takes jobs in, hands them to workers, and tells who waits what becomes of them."""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from medseg_nca.config.engines import AUTO
from medseg_nca.cores import cores
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.catalogue import Catalogue
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.jobs.records import Failure, JobOptions, JobProgress, JobRecord, State
from medseg_nca.serving.jobs.slot import Slot
from medseg_nca.serving.jobs.store import JobStore
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.settings import Limits
from medseg_nca.serving.workers.messages import ModelInfo, Moved

logger = logging.getLogger(__name__)

_SWEEP = 60.0
CANCELLED = Failure(409, "The job was cancelled.")


@dataclass(frozen=True)
class Parts:
    """What a service stands on."""

    store: JobStore
    catalogue: Catalogue
    audit: AuditLog
    metrics: Metrics
    limits: Limits


class JobService:
    """The queue and its workers; all methods may be used from any thread.

    Args:
        parts: what it stands on.
        devices: one worker, or ``workers``, for each.
        workers: for each device.
        poll: seconds between two looks at the registry.
        chores: called at the start and once a minute, for what else is not kept for ever.
        engine: who computes the automata.
    """

    def __init__(
        self, parts: Parts, devices: tuple[str, ...], workers: int, poll: float = 2.0,
        chores: tuple[Callable[[], object], ...] = (), engine: str = AUTO,
    ) -> None:  # fmt: skip
        self.parts, self._poll, self._chores = parts, poll, chores
        self.wake = threading.Condition()
        self.stopping = False
        self._progress: dict[str, JobProgress] = {}
        self._unwanted: dict[str, Failure] = {}
        # Who is told of a job, and whether of its end only.
        self._watchers: dict[str, dict[Callable[[], None], bool]] = {}
        # Those who are told that any job has ended.
        self.at_end: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        threads = max(1, cores() // max(1, len(devices) * workers))
        self.slots = [
            Slot(self, device, threads, engine) for device in devices for _ in range(workers)
        ]
        self._clock = threading.Thread(target=self._keep_time, name="clock", daemon=True)

    def start(self) -> None:
        """Put in order what an earlier server left, and begin to work."""
        for job in self.parts.store.recover():
            self.note_end(job) if job.is_finished else self._note(job, "tried again")
        self._tell_end()
        for slot in self.slots:
            slot.start()
        self._clock.start()

    def begin_stop(self) -> None:
        """Take no further job; those at work are finished, those that wait stay for the next start.

        Safe in a signal handler: it takes no lock.
        """
        self.stopping = True

    def close(self) -> None:
        """Wait for the jobs at work and end all processes."""
        self.stopping = True
        with self.wake:
            self.wake.notify_all()
        for slot in self.slots:
            slot.join()
        if self._clock.is_alive():
            self._clock.join()

    def room(self) -> None:
        """Find out whether a job could be taken in.

        Raises:
            Refused: with 503 and the seconds to wait, if the queue is full or the server stops.
        """
        if self.stopping:
            raise Refused(503, "The server is stopping.", retry_after=30)
        if self.parts.store.count("queued") >= self.parts.limits.queue:
            raise self._full()

    def submit(
        self, job_id: str, received: Path, options: JobOptions, *, owner: str, model: str,
        series: str, also: Callable[[sqlite3.Connection], None] | None = None,
    ) -> JobRecord:  # fmt: skip
        """Put a job into the queue.

        Args:
            job_id: a new one.
            received: folder with the input, which is moved.
            options: how it is to be predicted.
            owner: name of the user.
            model: served name.
            series: what the audit log calls the image.
            also: see :meth:`JobStore.add`.

        Raises:
            Refused: as :meth:`room`.
        """
        self.room()
        job = self.parts.store.add(
            job_id, received, options, owner=owner, model=model, series=series,
            most=self.parts.limits.queue, also=also,
        )  # fmt: skip
        if job is None:
            raise self._full()
        with self.wake:
            self.wake.notify_all()
        return job

    def cancel(self, job: JobRecord, failure: Failure = CANCELLED) -> None:
        """End a job that waits or is at work; one that has ended stays as it is."""
        if self.parts.store.cancel_queued(job.id, failure):
            self.end(job.id)
            return
        with self._lock:
            if job.id in self._unwanted:
                return
            self._unwanted[job.id] = failure
        for slot in self.slots:
            slot.look()
        self.parts.store.leave(job.id, failure)
        # A job that was not at work after all must leave no note behind.
        now = self.parts.store.get(job.id)
        if now is None or now.is_finished:
            self.unwanted(job.id, forget=True)

    def progress(self, job_id: str) -> JobProgress | None:
        """How far a job is; None if it is not at work."""
        with self._lock:
            return self._progress.get(job_id)

    def ready(self) -> str | None:
        """Why no job could be computed now; None if all workers have all models warm."""
        if self.stopping:
            return "The server is stopping."
        for slot in self.slots:
            if slot.trouble is not None:
                return slot.trouble
            for served in self.parts.catalogue.all:
                if not slot.has(served.info.key):
                    problem = slot.problem(served.info.key)
                    return problem or f"Model {served.entry.name} is being loaded."
        return None

    def gauges(self) -> dict[str, tuple[str, float]]:
        """Figures as they are now, each with its help."""
        store = self.parts.store
        workers = sum(slot.pid is not None for slot in self.slots)
        return {
            "queue_jobs": ("Jobs that wait.", float(store.count("queued"))),
            "running_jobs": ("Jobs at work.", float(store.count("running"))),
            "workers": ("Worker processes.", float(workers)),
            "ready": ("Whether every worker has every model warm.", float(self.ready() is None)),
        }

    @contextmanager
    def watch(self, job_id: str, *, end_only: bool = False) -> Iterator[asyncio.Event]:
        """An event, of the running loop, that is set whenever something of a job has changed.

        Args:
            job_id: of the job.
            end_only: whether it is set only when the job has ended.
        """
        loop, event = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(event.set)

        with self._lock:
            self._watchers.setdefault(job_id, {})[tell] = end_only
        try:
            yield event
        finally:
            with self._lock:
                watchers = self._watchers.get(job_id, {})
                watchers.pop(tell, None)
                if not watchers:
                    self._watchers.pop(job_id, None)

    # What follows is for the slots.

    def take(self, timeout: float) -> JobRecord | None:
        """The next job, which is at work from now on; None if none came in time."""
        with self.wake:
            if self.stopping:
                return None
            job = self.parts.store.claim()
            if job is None:
                self.wake.wait(timeout)
                return None
        self.tell(job.id)
        return job

    def moved(self, message: Moved) -> None:
        """Note how far a job is."""
        with self._lock:
            self._progress[message.job_id] = JobProgress(
                message.phase, message.done, message.total, message.facts
            )
        self.tell(message.job_id)

    def unwanted(self, job_id: str, *, forget: bool = False) -> Failure | None:
        """Why a job at work is no longer wanted; None while it is."""
        with self._lock:
            if forget:
                return self._unwanted.pop(job_id, None)
            return self._unwanted.get(job_id)

    def end(self, job_id: str) -> None:
        """Note that a job has come to its end."""
        with self._lock:
            self._progress.pop(job_id, None)
            self._unwanted.pop(job_id, None)
        job = self.parts.store.get(job_id)
        if job is not None:
            self.note_end(job)
        self.tell(job_id, end=True)

    def note_end(self, job: JobRecord) -> None:
        """Write the line of the audit log, and count."""
        seconds = None
        if job.started is not None and job.finished is not None:
            seconds = round(job.finished - job.started, 3)
        self.parts.metrics.count("jobs_total", model=job.model, outcome=job.state)
        if job.state == "done" and seconds is not None:
            self.parts.metrics.observe(seconds)
        self._note(job, _outcome(job.state, job.failure), seconds)
        if job.is_held:
            logger.warning(
                "Job %s: the estimate of its quality rejects the result, which is not delivered. "
                "After a look at it `medseg-nca dicom-node retry %s` delivers it.", job.id, job.id,
            )  # fmt: skip

    def put_back(self, job: JobRecord, *, counts: bool = True) -> None:
        """Return a job whose worker died to its place in the queue."""
        with self._lock:
            self._progress.pop(job.id, None)
        again = self.parts.store.put_back(job, counts=counts)
        if again is not None and again.is_finished:
            self.end(job.id)
            return
        self.parts.metrics.count("jobs_retried_total")
        self._note(job, "tried again")
        self.tell(job.id)

    def changed(self) -> None:
        """Wake all slots: a model was loaded, or a process ended."""
        with self.wake:
            self.wake.notify_all()

    def tell(self, job_id: str, *, end: bool = False) -> None:
        """Tell who watches a job that it has changed, or has come to its end."""
        with self._lock:
            watching = self._watchers.get(job_id, {})
            watchers = [tell for tell, end_only in watching.items() if end or not end_only]
        for watcher in watchers:
            watcher()
        if end:
            self._tell_end()

    def _tell_end(self) -> None:
        for told in self.at_end:
            told()

    def _note(self, job: JobRecord, outcome: str, seconds: float | None = None) -> None:
        version = (job.result.get("model") or {}).get("version", "")
        try:
            self.parts.audit.write(
                "job", user=job.owner, outcome=outcome, job=job.id, series=job.series,
                model=f"{job.model}@{version}" if version else job.model, seconds=seconds,
            )  # fmt: skip
        except OSError as error:  # a full disk must not keep a job from its end
            logger.error("Job %s: no line in the audit log (%s).", job.id, error.strerror)

    def _full(self) -> Refused:
        limits, workers = self.parts.limits, len(self.slots)
        wait = math.ceil(self.parts.metrics.mean_seconds * limits.queue / workers / 2)
        self.parts.metrics.count("refused_total")
        return Refused(
            503, f"The queue is full: {limits.queue} jobs wait.",
            hint="Send it again later.", retry_after=min(max(wait, 1), 600),
        )  # fmt: skip

    def _sweep(self) -> None:
        """Remove what is too old; where one kind cannot be removed, the others still are."""
        limits = self.parts.limits
        jobs = partial(self.parts.store.sweep, limits.job_age, limits.kept_bytes, limits.delivery)
        chores: tuple[Callable[[], object], ...] = (*self._chores, jobs)
        for chore in chores:
            try:
                chore()
            except Exception as error:
                # Text of the error could hold what a log should not.
                logger.error("Old files could not be removed: %s.", type(error).__name__)

    def _keep_time(self) -> None:
        """Follow the aliases and remove what is too old, until the server stops."""
        swept = float("-inf")
        while not self.stopping:
            try:
                if time.monotonic() - swept > _SWEEP:
                    swept = time.monotonic()
                    self._sweep()
                if self.parts.catalogue.look():
                    self.changed()
                self.parts.catalogue.switch(self._warm)
            except Exception as error:
                # The next look may succeed; text of the error could hold what it should not.
                logger.error("The clock of the server stumbled: %s.", type(error).__name__)
            self._wait(self._poll)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with self.wake:
            while not self.stopping and time.monotonic() < end:
                self.wake.wait(min(0.25, seconds))

    def _warm(self, model: ModelInfo) -> str | bool:
        problems = [problem for slot in self.slots if (problem := slot.problem(model.key))]
        return problems[0] if problems else all(slot.has(model.key) for slot in self.slots)


def _outcome(state: State, failure: Failure | None) -> str:
    return state if failure is None or state == "cancelled" else f"{state} {failure.status}"
