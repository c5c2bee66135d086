"""The server's end of one worker process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import get_context
from typing import Any

from medseg_nca.config.engines import AUTO
from medseg_nca.serving.workers.child import work
from medseg_nca.serving.workers.messages import (
    Cancel,
    Finished,
    Load,
    Loaded,
    ModelInfo,
    Moved,
    Run,
    Stop,
    ToWorker,
)

# Seconds that a worker has to end by itself.
_END = 10.0


class WorkerDied(Exception):  # noqa: N818
    """The process ended while it was to compute."""


class WorkerProcess:
    """A process that is at work; all methods may be used from any thread.

    Args:
        device: where its models compute.
        threads: for one prediction.
        most_models: that it keeps.
        changed: called, in a thread of its own, when models or progress have changed.
        moved: told how far a job is.
        engine: who computes the automata.
    """

    def __init__(
        self, device: str, threads: int, most_models: int,
        changed: Callable[[], None], moved: Callable[[Moved], None], engine: str = AUTO,
    ) -> None:  # fmt: skip
        self._changed, self._moved = changed, moved
        # A forked process would inherit torch's thread pool in an unknown state.
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=work, args=(theirs, device, threads, most_models, engine), name="worker",
            daemon=True,
        )  # fmt: skip
        self._process.start()
        theirs.close()
        self._sending, self._state = threading.Lock(), threading.Lock()
        self._asked: set[str] = set()
        self._loaded: dict[str, str | None] = {}
        self._future: tuple[str, Future[Finished]] | None = None
        self._dead = False
        self._reader = threading.Thread(target=self._read, name="worker-reader", daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        """Whether it can be given work."""
        return not self._dead

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    def load(self, model: ModelInfo) -> None:
        """Have a model loaded and warmed, if that was not asked for before."""
        with self._state:
            if model.key in self._asked:
                return
            self._asked.add(model.key)
        self._send(Load(model))

    def has(self, key: str) -> bool:
        """Whether a model is warm."""
        with self._state:
            return key in self._loaded and self._loaded[key] is None

    def problem(self, key: str) -> str | None:
        """Why a model cannot be loaded; None if it can, or that is not known yet."""
        with self._state:
            return self._loaded.get(key)

    def run(self, run: Run) -> Future[Finished]:
        """Have a job computed; the future raises :class:`WorkerDied` if the process ends."""
        future: Future[Finished] = Future()
        with self._state:
            if self._dead:
                future.set_exception(WorkerDied())
                return future
            self._future = (run.job_id, future)
        self._send(run)
        return future

    def cancel(self, job_id: str) -> None:
        """Ask it to leave a job."""
        self._send(Cancel(job_id))

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def stop(self) -> None:
        """Let it end; what it computes is finished first, for some seconds."""
        self._send(Stop())
        self._process.join(_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._reader.join()

    def _send(self, message: ToWorker) -> None:
        # Should it have died, the reader notices.
        with self._sending, suppress(OSError, ValueError):
            self._pipe.send(message)

    def _read(self) -> None:
        try:
            while True:
                self._take(self._pipe.recv())
        except (EOFError, OSError):
            pass
        self._process.join()
        with self._state:
            self._dead, future, self._future = True, self._future, None
        with self._sending:
            self._pipe.close()
        if future is not None:
            future[1].set_exception(WorkerDied())
        self._changed()

    def _take(self, message: Any) -> None:
        if isinstance(message, Moved):
            self._moved(message)
            return
        if isinstance(message, Loaded):
            with self._state:
                self._loaded[message.key] = message.problem
            self._changed()
        elif isinstance(message, Finished):
            with self._state:
                future, self._future = self._future, None
            if future is not None and future[0] == message.job_id:
                future[1].set_result(message)
