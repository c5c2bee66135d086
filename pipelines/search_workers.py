"""The processes of a search: each takes trials from the storage until none waits."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path

from medseg_nca.cores import cores
from medseg_nca.errors import Interrupted, MedsegError
from medseg_nca.job import Job
from medseg_nca.pipelines.search_trial import TrialPlan, TrialWork
from medseg_nca.search.storage import SearchStorage
from medseg_nca.training.signals import on_stop_signal
from medseg_nca.work.local_processes import end_with_parent
from medseg_nca.work.scheduler import use_threads

logger = logging.getLogger(__name__)

LOGS = "workers"
# Seconds that workers have to save the state of their trainings.
_LAST_WORDS = 60
# So many workers of one call may be killed.
_MOST_KILLED = 20
# Records of these loggers reach the terminal during a training of a trial.
_HEARD = ("medseg_nca.search", "medseg_nca.pipelines.search", "medseg_nca.training.signals")


class WorkerError(MedsegError):
    """The worker processes of a search cannot work."""


class SearchWorkers:
    """A number of worker processes, which are started as there is work for them.

    Args:
        plan: what is searched.
        count: number of processes; they share the cores evenly.
    """

    def __init__(self, plan: TrialPlan, count: int) -> None:
        self._plan, self._count = plan, count
        self._threads = max(1, cores() // count)
        self._processes: dict[SpawnProcess, Path] = {}
        self._started = self._killed = 0

    def clear(self) -> bool:
        """Forget the processes that have ended; return whether one of them was killed.

        Raises:
            WorkerError: if one ended with an error, or so many were killed that it has no use.
        """
        ended = {p: log for p, log in self._processes.items() if p.exitcode is not None}
        for process, log in ended.items():
            del self._processes[process]
            if (process.exitcode or 0) > 0:
                raise WorkerError(
                    f"A worker process ended: {_last_line(log)}",
                    hint=f"{log} has what it said. The trials are kept; the same command goes on.",
                )
        killed = sum((process.exitcode or 0) < 0 for process in ended)
        self._killed += killed
        if self._killed > _MOST_KILLED:
            raise WorkerError(
                f"{self._killed} worker processes were killed.",
                hint="Probably for want of memory: take fewer --workers, or a smaller model. The "
                "trials are kept; the same command goes on.",
            )
        return killed > 0

    def fill(self, waiting: int) -> None:
        """Start processes until each place is taken, or as many as trials wait."""
        alive = sum(process.is_alive() for process in self._processes)
        for _ in range(min(self._count - alive, waiting)):
            self._start()

    def _start(self) -> None:
        log = self._plan.out / LOGS / f"worker_{self._started}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self._started += 1
        # A forked process would inherit torch's thread pool in an unknown state.
        # A daemon may have no children, and a training may have processes that prepare samples.
        process = get_context("spawn").Process(target=work, args=(self._plan, self._threads, log))
        process.start()
        self._processes[process] = log

    def stop(self) -> None:
        """Let every process save the state of its training, and end."""
        for process in self._processes:
            if process.is_alive():
                process.terminate()
        for process in self._processes:
            process.join(_LAST_WORDS)
            if process.is_alive():
                process.kill()
        self._processes = {}


def work(plan: TrialPlan, threads: int, log: Path) -> None:
    """Do trials until none waits; this is what a worker process does.

    Args:
        plan: what is searched.
        threads: number of cores that this process may use.
        log: file that gets all that is said, which none of the others reads.
    """
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is for the command, which asks its workers to stop
    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    use_threads(threads)
    _speak_into(log)
    warnings.simplefilter("ignore")
    job = Job()
    with on_stop_signal(job.cancel):
        try:
            do_trials(plan, SearchStorage(plan.url), job)
        except Interrupted as stop:
            logger.info("%s", stop)
        except MedsegError as error:
            logger.error("%s", error)
            raise SystemExit(error.exit_code) from None


def do_trials(plan: TrialPlan, storage: SearchStorage, job: Job) -> None:
    """Do trials in this process until none waits.

    Raises:
        Interrupted: if the job was cancelled; the trial waits again.
        MedsegError: as :meth:`TrialWork.run_next` raises it.
    """
    worker = TrialWork(plan, storage, job)
    while worker.run_next() is not None:
        pass


@contextmanager
def only_the_search_speaks() -> Iterator[None]:
    """Keep what trainings say off the terminal, during the block; their run folders have it."""

    def heard(record: logging.LogRecord) -> bool:
        return record.name.startswith(_HEARD)

    handlers = [h for h in logging.getLogger("medseg_nca").handlers if h.level < logging.CRITICAL]
    package = logging.getLogger("medseg_nca")
    if package.level <= logging.DEBUG and package.level != logging.NOTSET:
        handlers = []  # --verbose shows all
    for handler in handlers:
        handler.addFilter(heard)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(heard)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing."


def _speak_into(log: Path) -> None:
    """Send standard output, standard error and the log of this process to a file."""
    stream = log.open("a", encoding="utf-8")
    with suppress(OSError):
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    package = logging.getLogger("medseg_nca")
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
