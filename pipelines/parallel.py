"""Run one function over many items, in processes or here, and keep going when one fails."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Generic, TypeVar

from medseg_nca.errors import MedsegError, OutputError

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What became of the item at ``index``: a result, or the reason why there is none."""

    index: int
    result: R | None = None
    error: str | None = None


def run_each(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[Outcome[R]]:
    """Yield an outcome for every item as soon as it is known, in any order.

    Args:
        function: importable by name (not a lambda), as are its argument and result.
        items: what it is called with.
        workers: processes; 0 or 1 runs in this one.

    Raises:
        OutputError: the first one; a full disk spoils all items.
        MedsegError: if a process was killed.
    """
    if workers <= 1 or len(items) <= 1:
        for index, item in enumerate(items):
            yield _attempt(function, index, item)
        return
    # A forked process would inherit torch's thread pool in an unknown state.
    pool = ProcessPoolExecutor(
        min(workers, len(items)), mp_context=get_context("spawn"), initializer=_start_worker
    )
    try:
        yield from _collect(pool, function, items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(
    pool: ProcessPoolExecutor, function: Callable[[T], R], items: Sequence[T]
) -> Iterator[Outcome[R]]:
    futures: list[Future[Outcome[R]]] = [
        pool.submit(_attempt, function, index, item) for index, item in enumerate(items)
    ]
    try:
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise MedsegError(
            "A worker process was killed, probably for want of memory.",
            hint="Run again with fewer --workers; what is finished is kept.",
        ) from error


def _attempt(function: Callable[[Any], Any], index: int, item: Any) -> Outcome[Any]:
    try:
        return Outcome(index, function(item))
    except OutputError:
        raise
    except MedsegError as error:
        return Outcome(index, error=str(error))
    except Exception as error:
        # One strange file must not cost the work on all others; the log has the traceback.
        logger.debug("Unexpected failure", exc_info=True)
        return Outcome(index, error=f"unexpected {type(error).__name__}: {error}")


def _start_worker() -> None:
    """Ctrl-C is for the parent, which stops the workers; each has one core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"  # read by torch when a step imports it
