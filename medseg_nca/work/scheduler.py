"""Run one function over many items: in this process, in several processes or on a cluster.

The interface is :class:`Scheduler`. If one item fails, the others go on. Items are taken when there
is room for them and outcomes are passed on as they come, so that not all of them need to fit into
memory at once. An item should hold paths rather than arrays.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from medseg_nca.errors import Interrupted, MedsegError, OutputError
from medseg_nca.job import Job

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
# Called with an item and the job that it is a part of.
Function = Callable[[T, Job], R]
# Names the files that a worker must be able to see for an item.
Files = Callable[[Any], Sequence[Path]]

KILLED = "its worker was killed, probably for want of memory"


class SchedulerError(MedsegError):
    """Workers cannot be started or reached, or cannot see what they need."""


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What became of the item at ``index``: a result, or the reason why there is none.

    Attributes:
        index: number of the item, from 0.
        result: what the function returned; None if it failed.
        error: why the function failed, in words for a person; None if it did not.
        cause: the traceback of an unexpected error.
        kind: name of the error's class.
    """

    index: int
    result: R | None = None
    error: str | None = None
    cause: str | None = None
    kind: str | None = None

    @property
    def resumed(self) -> bool:
        """Whether an earlier run made the result, as its attribute ``cached`` says."""
        return bool(getattr(self.result, "cached", False))


def counted(
    outcomes: Iterable[Outcome[R]], job: Job, phase: str, total: int, unit: str = "cases"
) -> Iterator[Outcome[R]]:
    """Pass outcomes on, and report to the job how many there are: all, resumed and failed ones.

    Args:
        outcomes: the outcomes of a stage.
        job: the job that the stage belongs to.
        phase: name of the stage.
        total: number of all outcomes.
        unit: what the items are called.

    Raises:
        Interrupted: if the job was cancelled; every outcome up to then was passed on.
    """
    resumed = failed = 0
    job.report(phase, 0, total, unit=unit)
    for done, outcome in enumerate(outcomes, 1):
        yield outcome
        resumed += outcome.resumed
        failed += outcome.error is not None
        job.report(phase, done, total, unit=unit, facts={"resumed": resumed, "failed": failed})


def gathered(
    outcomes: Iterable[Outcome[R]], names: Sequence[str], job: Job, phase: str
) -> tuple[dict[str, R], dict[str, str]]:
    """Collect the outcomes of cases; a case that failed does not stop the others.

    Args:
        outcomes: the outcomes of a stage, in any order.
        names: the name of each case.
        job: gets the progress, in the phase.
        phase: name of the stage.

    Returns:
        The result of each case that succeeded, and the error of each case that failed, by name in
        the order of the names.

    Raises:
        Interrupted: if the job was cancelled.
    """
    found: dict[int, Outcome[R]] = {}
    for outcome in counted(outcomes, job, phase, len(names)):
        found[outcome.index] = outcome
        if outcome.error is not None:
            logger.error("%s failed: %s", names[outcome.index], outcome.error)
    results: dict[str, R] = {}
    failed: dict[str, str] = {}
    for index, name in enumerate(names):
        result, error = found[index].result, found[index].error
        if result is not None:
            results[name] = result
        else:
            failed[name] = error or "unknown"
    return results, failed


class Scheduler(ABC):
    """Does the work on items, in this process or elsewhere.

    Attributes:
        remote: whether workers may be on other machines, so that paths must be absolute and in a
            shared folder.
        separate: whether the work is done in other processes.
    """

    remote = False
    separate = True

    @abstractmethod
    def run_each(
        self,
        function: Function[T, R],
        items: Iterable[T],
        files: Files | None = None,
        job: Job | None = None,
    ) -> Iterator[Outcome[R]]:
        """Yield an outcome for every item as soon as it is known, in any order.

        No more items are taken from ``items`` than can be worked on soon. If the worker of an item
        is killed, the item is tried once more; if its worker is killed again, the item fails.
        Stopping the iteration stops the work.

        Args:
            function: the function that is called with each item. Unless the work is done in this
                process, the function, its argument and its result must be importable by name (no
                lambda). It may be called twice for an item whose worker was killed, so it should
                keep what it finished, and look for it first.
            items: the items.
            files: returns the files that a worker must see to do an item. A worker that does not
                see such a file, although it exists, gets no more work; the item goes to another.
            job: the job that the work belongs to. It is asked whether to go on before every item,
                and at least every two seconds while there is no outcome to pass on. In this process
                the function is called with this job, which so gets the progress within an item. In
                another process the function is called with a job that nobody listens to or cancels;
                there cancelling stops the workers (those of a cluster finish their item).

        Raises:
            Interrupted: if the job was cancelled.
            OutputError: if the function raises it, because a full disk concerns all items.
            SchedulerError: if no worker can be used.
        """

    def close(self) -> None:  # noqa: B027
        """Release the workers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class InProcess(Scheduler):
    """Does one item after the other, in this process."""

    separate = False

    def run_each(
        self,
        function: Function[T, R],
        items: Iterable[T],
        files: Files | None = None,
        job: Job | None = None,
    ) -> Iterator[Outcome[R]]:
        """Implement :meth:`Scheduler.run_each`."""
        job = job or Job()
        for index, item in enumerate(items):
            job.check()
            yield noted(attempt(function, index, item, job))


def open_scheduler(
    workers: int, address: str | None = None, folder: Path | None = None
) -> Scheduler:
    """Return the scheduler for the work; it is a context manager.

    Args:
        workers: number of processes on this machine; with 0 or 1 the work is done in this process.
            Without meaning if there is an address.
        address: address of a Dask scheduler, for example ``tcp://host:8786``.
        folder: folder that all workers of a cluster see, for their notes. It is created, and
            removed if nothing else is in it. Needed with an address.

    Raises:
        DependencyError: if there is an address and ``distributed`` is not installed.
        ConfigError: if the address has another form.
        SchedulerError: if the scheduler does not answer or has no usable worker.
    """
    if address is not None:
        from medseg_nca.work.dask_cluster import DaskCluster

        return DaskCluster(address, Path() if folder is None else folder)
    if workers <= 1:
        return InProcess()
    from medseg_nca.work.local_processes import LocalProcesses

    return LocalProcesses(workers)


def run_each(
    function: Function[T, R],
    items: Iterable[T],
    workers: int,
    *,
    scheduler: str | None = None,
    folder: Path | None = None,
    files: Files | None = None,
    job: Job | None = None,
) -> Iterator[Outcome[R]]:
    """Run one stage of work with a scheduler; see :func:`open_scheduler`, :class:`Scheduler`."""
    with open_scheduler(workers, scheduler, folder) as opened:
        yield from opened.run_each(function, items, files, job)


def attempt(
    function: Callable[[Any, Job], Any], index: int, item: Any, job: Job | None = None
) -> Outcome[Any]:
    """Call the function, and turn its result or its error into an outcome.

    Raises:
        OutputError, Interrupted: if the function does.
    """
    try:
        return Outcome(index, function(item, job or Job()))
    except (OutputError, Interrupted):
        raise
    except MedsegError as error:
        return Outcome(index, error=str(error), kind=type(error).__name__)
    except Exception as error:  # one strange file must not cost the work on all others
        text = f"unexpected {type(error).__name__}: {error}"
        return Outcome(index, error=text, cause=traceback.format_exc())


def noted(outcome: Outcome[R]) -> Outcome[R]:
    """Write the cause of an outcome to the log, where ``--verbose`` shows it."""
    if outcome.cause:
        logger.debug("Unexpected failure:\n%s", outcome.cause)
    return outcome


def use_threads(count: int) -> None:
    """Let torch and the libraries below it use that many threads in this process."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)  # read when a library is loaded
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)
