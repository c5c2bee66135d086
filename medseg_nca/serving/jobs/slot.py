"""The place of one worker: keeps a process there, and gives it one job after another."""

from __future__ import annotations

import errno
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from medseg_nca.config.engines import AUTO
from medseg_nca.serving.errors import FAULT, FAULT_HINT, Refused
from medseg_nca.serving.jobs.records import Failure, JobRecord, State
from medseg_nca.serving.jobs.store import INPUT
from medseg_nca.serving.workers.messages import Finished, Run
from medseg_nca.serving.workers.process import WorkerDied, WorkerProcess

if TYPE_CHECKING:
    from medseg_nca.serving.jobs.service import JobService

logger = logging.getLogger(__name__)

# Seconds between two looks at a job at work, and for one without a job.
_LOOK, _IDLE = 0.1, 0.5
# Seconds that a job has to end after it was cancelled; then its process is killed.
GRACE = 10.0
# Seconds before a process is started anew, when the last one did not live long.
_BACKOFF = 5.0
# Seconds between two tries to write the end of a job, where the disk is full.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class Slot(threading.Thread):
    """A thread for one worker process.

    Args:
        service: whose jobs it takes.
        device: where its models compute.
        threads: for one prediction.
        engine: who computes the automata.
    """

    def __init__(self, service: JobService, device: str, threads: int, engine: str = AUTO) -> None:
        super().__init__(name=f"slot-{device}", daemon=True)
        self._engine = engine
        self._service, self._device, self._threads = service, device, threads
        self._worker: WorkerProcess | None = None
        self._born = 0.0
        self._trouble: str | None = None
        self._news = threading.Event()

    @property
    def trouble(self) -> str | None:
        """Why this place takes no job, whatever the model; None if it does."""
        return self._trouble if self.is_alive() else "A worker's place has ended; start anew."

    def has(self, key: str) -> bool:
        """Whether a model is warm here."""
        worker = self._worker
        return worker is not None and worker.alive and worker.has(key)

    def problem(self, key: str) -> str | None:
        """Why a model cannot be loaded here."""
        worker = self._worker
        return None if worker is None else worker.problem(key)

    @property
    def pid(self) -> int | None:
        """Of the process that is there."""
        worker = self._worker
        return None if worker is None else worker.pid

    def look(self) -> None:
        """Find out at once whether the job at work is still wanted."""
        self._news.set()

    def run(self) -> None:
        """Work until the server stops."""
        while not self._service.stopping:
            try:
                worker = self._living()
                if worker is None or not self._prepared(worker):
                    with self._service.wake:
                        self._service.wake.wait(_LOOK)
                    continue
                job = self._service.take(_IDLE)
            except Exception as error:
                logger.error("A worker's place stumbled: %s.", type(error).__name__)
                time.sleep(_IDLE)
                continue
            if job is not None:
                self._compute_safely(worker, job)
        if self._worker is not None:
            self._worker.stop()

    def _living(self) -> WorkerProcess | None:
        """The process, a new one if it ended; None while a new one has to wait."""
        if self._worker is not None and self._worker.alive:
            return self._worker
        if self._worker is not None:
            if time.monotonic() - self._born < _BACKOFF:
                return None
            logger.warning("A worker process ended; another one takes its place.")
        self._born = time.monotonic()
        self._service.parts.metrics.count("worker_starts_total")
        models = 2 * len(self._service.parts.catalogue.all)  # each, and the version after it
        self._worker = WorkerProcess(
            self._device, self._threads, models, self._service.changed, self._service.moved,
            self._engine,
        )  # fmt: skip
        return self._worker

    def _prepared(self, worker: WorkerProcess) -> bool:
        """Have the models loaded; whether all in service are warm, or cannot be."""
        for model in self._service.parts.catalogue.wanted():
            worker.load(model)
        keys = [served.info.key for served in self._service.parts.catalogue.all]
        return all(worker.has(key) or worker.problem(key) for key in keys)

    def _compute_safely(self, worker: WorkerProcess, job: JobRecord) -> None:
        try:
            self._compute(worker, job)
        except Exception as error:
            logger.error("Job %s: the server has a fault (%s).", job.id, type(error).__name__)
            try:
                self._fail(job, Failure(500, FAULT, FAULT_HINT))
            except Exception as again:  # this thread must live on, whatever happens
                logger.error("Job %s: it could not be ended (%s).", job.id, type(again).__name__)

    def _compute(self, worker: WorkerProcess, job: JobRecord) -> None:
        parts = self._service.parts
        try:
            served = parts.catalogue.get(job.model)
        except Refused:
            failure = Failure(503, f"Model {job.model} is no longer served.", "Send it again.")
            self._fail(job, failure)
            return
        if (problem := worker.problem(served.info.key)) is not None:
            self._fail(job, Failure(503, f"Model {job.model} cannot be loaded: {problem}"))
            return
        run = Run(
            job.id, served.info, parts.store.folder(job.id) / INPUT,
            parts.store.attempt_folder(job), job.options, parts.limits.voxels,
        )  # fmt: skip
        try:
            finished, why = self._follow(worker, job, worker.run(run))
        except WorkerDied:
            why = self._service.unwanted(job.id)
            if why is None:
                self._noted(job, lambda: self._service.put_back(job))
            else:
                self._fail(job, why)
            return
        # Who cancelled a job is not told a moment later that it is done.
        if why is None and finished.failure is None and not finished.cancelled:
            self._noted(job, lambda: parts.store.finish(job))
            self._service.end(job.id)
        else:
            self._fail(job, why or finished.failure or Failure(500, FAULT, FAULT_HINT))

    def _follow(
        self, worker: WorkerProcess, job: JobRecord, future: Future[Finished]
    ) -> tuple[Finished, Failure | None]:
        """Wait for a job; who does not want it any more, or the deadline, ends it.

        Raises:
            WorkerDied: if the process ended.
        """
        deadline = time.monotonic() + self._service.parts.limits.deadline
        asked: float | None = None
        future.add_done_callback(lambda _: self._news.set())
        while True:
            self._news.wait(_LOOK)
            self._news.clear()
            if future.done():
                return future.result(), self._service.unwanted(job.id)
            self._prepared(worker)  # a new version is warmed beside the job
            now = time.monotonic()
            if self._service.unwanted(job.id) is None and now > deadline:
                with suppress(sqlite3.OperationalError):  # a full disk: it is left all the same
                    self._service.cancel(job, self._too_long())
            if asked is None and self._service.unwanted(job.id) is not None:
                asked = now
                worker.cancel(job.id)
            if asked is not None and now > asked + GRACE:
                worker.kill()

    def _too_long(self) -> Failure:
        seconds = self._service.parts.limits.deadline
        return Failure(
            504, f"The job took longer than {seconds:g} s.",
            "Send a smaller image, or ask who runs the server for more time (--deadline).",
        )  # fmt: skip

    def _fail(self, job: JobRecord, failure: Failure) -> None:
        state: State = "cancelled" if failure.status == 409 else "failed"
        self._noted(job, lambda: self._service.parts.store.fail(job.id, failure, state))
        self._service.end(job.id)

    def _noted(self, job: JobRecord, write: Callable[[], object]) -> None:
        """Write what became of a job; where the disk is full, again until it can be written.

        A server that stops meanwhile leaves the job to the next one, which finds it at work.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                write()
            except (sqlite3.OperationalError, OSError) as error:
                if isinstance(error, OSError) and error.errno not in _FULL:
                    raise
                self._trouble = "The server cannot write to its disk."
                logger.error(
                    "Job %s: its end cannot be written (%s); it is tried again.",
                    job.id, type(error).__name__,
                )  # fmt: skip
            else:
                self._trouble = None
                return
            if self._service.stopping:
                return
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
