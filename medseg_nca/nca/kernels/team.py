"""Threads that compute slabs together, as many as torch is set to use.

A team stays in compiled code for a whole roll-out and meets there after every step
(``src/team.hpp``); going back to Python each time would cost more than a step of a small grid.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import Any

import torch

# With fewer operations than this a step is done before a second thread is of use.
_WORTH_SHARING = 2e6
# A number of arrivals that no meeting comes to.
_NOBODY_WAITS = 1 << 60
# Threads that meet must all be running, so one team at a time has the pool.
_taken = threading.Lock()


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    """Threads that all exist: an executor alone may count one as idle that it has not started."""
    pool = ThreadPoolExecutor(size, thread_name_prefix="medseg-nca")
    start = threading.Barrier(size)
    wait([pool.submit(start.wait) for _ in range(size)])
    return pool


def _after_fork() -> None:
    """Threads do not survive a fork, and a lock may be held by one that is gone."""
    global _taken
    _taken = threading.Lock()
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def team_size(operations: float, jobs: int) -> int:
    """How many threads a step of so many floating-point operations deserves."""
    if operations < _WORTH_SHARING:
        return 1
    return max(1, min(torch.get_num_threads(), jobs))


def together(work: Callable[[int, int], Any], size: int, meeting: Any) -> list[Any]:
    """Call ``work(index, team)`` on ``size`` threads; on this one alone if the others are busy.

    Args:
        work: releases the interpreter lock while it computes.
        size: number of threads.
        meeting: what they meet at. If one fails, the others no longer wait for it.

    Raises:
        BaseException: what a thread raised, when all have ended.
    """
    if size == 1 or not _taken.acquire(blocking=False):
        return [work(0, 1)]
    others: list[Future[Any]] = []

    def guarded(index: int) -> Any:
        try:
            return work(index, size)
        except BaseException:
            meeting[0] = _NOBODY_WAITS
            raise

    try:
        for index in range(1, size):
            others.append(_pool(size - 1).submit(guarded, index))
        return [guarded(0), *(future.result() for future in others)]
    except BaseException:
        meeting[0] = _NOBODY_WAITS
        raise
    finally:
        wait(others)
        _taken.release()
