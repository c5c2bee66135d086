"""Work in processes of this machine, each of which can die without harm to the others.

Every process is a pool of its own and does one item at a time, so that the death of a process says
which item it was working on.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import connection, get_context, parent_process
from types import FrameType, TracebackType
from typing import Any

from medseg_nca.cores import cores
from medseg_nca.job import Job
from medseg_nca.work.scheduler import (
    KILLED,
    Files,
    Function,
    Outcome,
    R,
    Scheduler,
    SchedulerError,
    T,
    attempt,
    noted,
    use_threads,
)

logger = logging.getLogger(__name__)

# Seconds between two looks at the job.
_LOOK = 0.2
# Whether this worker process was asked to end.
_given_up = threading.Event()


class LocalProcesses(Scheduler):
    """Does items in a fixed number of processes, which share the cores evenly.

    Args:
        workers: number of processes.
        share: number of cores that the processes share; None means all that this process may use.
    """

    def __init__(self, workers: int, share: int | None = None) -> None:
        threads = max(1, (cores() if share is None else share) // workers)
        self._slots = [_Slot(threads) for _ in range(workers)]

    def run_each(
        self,
        function: Function[T, R],
        items: Iterable[T],
        files: Files | None = None,
        job: Job | None = None,
    ) -> Iterator[Outcome[R]]:
        """Implement :meth:`Scheduler.run_each`.

        An item whose process was killed is tried again at the end, while no other item runs. If its
        process is killed once more, the item fails.
        """
        job = job or Job()
        again: list[tuple[int, T]] = []
        try:
            yield from self._together(function, items, again, job)
            for index, item in again:
                yield self._alone(function, index, item, job)
        except BaseException:
            self._kill()  # nothing is lost but the items at work: files appear whole or not at all
            raise

    def _together(
        self,
        function: Function[T, R],
        items: Iterable[T],
        again: list[tuple[int, T]],
        job: Job,
    ) -> Iterator[Outcome[R]]:
        numbered = iter(enumerate(items))
        busy: dict[Future[Outcome[R]], tuple[_Slot, int, T]] = {}

        def start(slot: _Slot) -> None:
            for index, item in numbered:
                busy[slot.submit(function, index, item)] = (slot, index, item)
                return

        for slot in self._slots:
            start(slot)
        while busy:
            finished = _wait(busy, job)
            for future in finished:
                slot, index, item = busy.pop(future)
                outcome = _result(future)
                if outcome is None:
                    logger.warning("A worker process was killed; its case is tried again alone.")
                    again.append((index, item))
                    slot.renew()
                start(slot)  # before the outcome is passed on, because its receiver may be slow
                if outcome is not None:
                    yield noted(outcome)

    def _alone(self, function: Function[T, R], index: int, item: T, job: Job) -> Outcome[R]:
        slot = self._slots[0]
        (future,) = _wait([slot.submit(function, index, item)], job)
        outcome = _result(future)
        if outcome is None:
            slot.renew()
            return Outcome(index, error=KILLED)
        return noted(outcome)

    def _kill(self) -> None:
        for slot in self._slots:  # all are asked to stop before the first is waited for
            slot.stop()
        self.close()

    def close(self) -> None:
        """Implement :meth:`Scheduler.close`."""
        for slot in self._slots:
            slot.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:  # nobody takes the outcomes any more
            self._kill()
        else:
            self.close()


class _Slot:
    """The place of one process, which is started when it is needed."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ProcessPoolExecutor | None = None
        self._pid: Future[int] | None = None

    def submit(self, function: Any, index: int, item: Any) -> Future[Any]:
        if self._pool is None:
            self._start()
        assert self._pool is not None
        try:
            return self._pool.submit(_attempt, function, index, item)
        except BrokenProcessPool as error:  # the process died while it was idle
            broken: Future[Any] = Future()
            broken.set_exception(error)
            return broken

    def renew(self) -> None:
        """Replace a process that was killed.

        Raises:
            SchedulerError: if the new process does not start.
        """
        self.close()
        self._start()
        assert self._pid is not None
        try:
            self._pid.result()
        except BrokenProcessPool as error:
            raise SchedulerError(
                "Worker processes end as soon as they are started.",
                hint="Run it with --workers 1, and look at what the processes wrote above.",
            ) from error

    def stop(self) -> None:
        """Ask the process to leave its item; only its start is waited for.

        A process that is still starting has its item in its queue already, and would do it.
        """
        if self._pid is not None and not self._pid.exception():
            with suppress(OSError):
                os.kill(self._pid.result(), signal.SIGTERM)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._pid = None

    def _start(self) -> None:
        # A forked process would inherit torch's thread pool in an unknown state.
        self._pool = ProcessPoolExecutor(
            1,
            mp_context=get_context("spawn"),
            initializer=_start_worker,
            initargs=(self._threads,),
        )
        self._pid = self._pool.submit(os.getpid)


def _wait(futures: Collection[Future[Outcome[R]]], job: Job) -> set[Future[Outcome[R]]]:
    """Wait for at least one future, and return those that are finished.

    Raises:
        Interrupted: if the job is cancelled before.
    """
    while True:
        job.check()
        finished, _ = wait(futures, timeout=_LOOK, return_when=FIRST_COMPLETED)
        if finished:
            return finished


def _result(future: Future[Outcome[R]]) -> Outcome[R] | None:
    """Return the outcome of a future; None if the process was killed."""
    try:
        return future.result()
    except BrokenProcessPool:
        return None


def _start_worker(threads: int) -> None:
    """Leave Ctrl-C to the parent, which stops the workers; a worker ends when its parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _give_up)
    use_threads(threads)
    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()


def _attempt(function: Any, index: int, item: Any) -> Outcome[Any]:
    """Call :func:`attempt`. SystemExit of an item becomes its error, and the process goes on."""
    if _given_up.is_set():
        raise SystemExit
    return attempt(function, index, item)


def _give_up(number: int, frame: FrameType | None) -> None:
    """End the item at work by an exception, so that its half-written file is removed."""
    _given_up.set()
    raise SystemExit


def end_with_parent() -> None:
    """Wait for the end of the process that started this one, and then end this one at once."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
