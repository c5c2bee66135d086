"""A worker process: holds warm models and computes one job at a time.

It listens while it computes, so that cancelling and new models reach it at once. Only the server
ends it: the signals that a terminal or an init system sends to all processes are for the server.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from medseg_nca.config.engines import AUTO
from medseg_nca.errors import Interrupted
from medseg_nca.job import Job, Progress
from medseg_nca.serving.errors import failure_of
from medseg_nca.serving.quiet import quiet_worker
from medseg_nca.serving.workers.messages import (
    Cancel,
    Finished,
    FromWorker,
    Load,
    Loaded,
    ModelInfo,
    Moved,
    Run,
    Stop,
)
from medseg_nca.work.scheduler import use_threads

if TYPE_CHECKING:
    from medseg_nca.inference.bundle import LoadedModel

# Seconds between two messages about how far a job is. Each wakes threads of the server, which would
# take a core from a small image ten times in the tenth of a second that it is computed.
_BETWEEN = 0.1


def work(pipe: Connection, device: str, threads: int, most_models: int, engine: str = AUTO) -> None:
    """Run until the server says stop or is gone; the entry of the process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    use_threads(threads)
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    threading.Thread(target=_end_with_server, name="parent", daemon=True).start()
    quiet_worker()
    _Worker(pipe, device, most_models, engine).run()


class _Worker:
    """The listening thread fills the queue; the main thread empties it."""

    def __init__(self, pipe: Connection, device: str, most_models: int, engine: str) -> None:
        from medseg_nca.inference.model_store import ModelStore

        self._pipe, self._device, self._engine = pipe, device, engine
        self._models = ModelStore(most=most_models)
        self._queue: SimpleQueue[Run | None] = SimpleQueue()
        self._sending = threading.Lock()
        self._jobs: dict[str, Job] = {}

    def run(self) -> None:
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        while (run := self._queue.get()) is not None:
            self._send(self._compute(run))

    def _listen(self) -> None:
        try:
            while True:
                message: Any = self._pipe.recv()
                if isinstance(message, Run):
                    self._jobs[message.job_id] = Job(self._listener(message.job_id))
                    self._queue.put(message)
                elif isinstance(message, Cancel):
                    job = self._jobs.get(message.job_id)
                    if job is not None:
                        job.cancel()
                elif isinstance(message, Load):
                    # Beside the job at work, which may take minutes.
                    threading.Thread(target=self._load, args=(message.model,), daemon=True).start()
                elif isinstance(message, Stop):
                    break
        except (EOFError, OSError):
            pass
        self._queue.put(None)

    def _load(self, model: ModelInfo) -> None:
        from medseg_nca.serving.workers.compute import warm

        try:
            warm(self._get(model))
        except Exception as error:
            self._send(Loaded(model.key, failure_of(error, model.folder).detail))
            _tell("a model cannot be loaded", error)
        else:
            self._send(Loaded(model.key))

    def _get(self, model: ModelInfo) -> LoadedModel:
        from medseg_nca.inference.bundle import load_bundle

        def load() -> LoadedModel:
            model.check()
            return load_bundle(model.folder, self._device, self._engine)

        return self._models.get(model.key, load)

    def _compute(self, run: Run) -> Finished:
        from medseg_nca.serving.workers.compute import compute

        job = self._jobs[run.job_id]
        try:
            compute(run, self._get(run.model), job)
        except Interrupted:
            return Finished(run.job_id, cancelled=True)
        except Exception as error:
            failure = failure_of(error, run.input)
            if failure.status == 500:
                _tell(f"job {run.job_id}", error)
            return Finished(run.job_id, failure)
        finally:
            del self._jobs[run.job_id]
        return Finished(run.job_id)

    def _listener(self, job_id: str) -> Any:
        told = float("-inf")

        def listen(progress: Progress) -> None:
            nonlocal told
            now = time.monotonic()
            if now - told < _BETWEEN:
                return
            told = now
            self._send(Moved(job_id, progress.phase, progress.done, progress.total, progress.facts))

        return listen

    def _send(self, message: FromWorker) -> None:
        with self._sending:
            self._pipe.send(message)


def _tell(what: str, error: BaseException) -> None:
    """On standard error, where a fault lies; not its message, which may hold what a client sent."""
    places = [
        f"{frame.name} (line {frame.lineno})" for frame in traceback.extract_tb(error.__traceback__)
    ]
    os.write(2, f"Fault in {what}: {type(error).__name__} in {' < '.join(places[::-1])}\n".encode())


def _end_with_server() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
