"""Threads that compute slabs together, as many as torch is set to use.

A team stays in compiled code for a whole roll-out and meets there after every step
(``src/team.hpp``); going back to Python each time would cost more than a step of a small grid.

Roll-outs that run at the same time, in several threads of Python, share the cores: a team gets its
part of them, and one for which no core is free waits until another roll-out ends. Teams that wait
take their turns in the order in which they came, so a thread that begins one roll-out after the
other cannot keep the cores for itself. There are never more threads in teams than torch is set to
use, which matters because threads that meet spin. Results do not depend on the size of a team.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import torch

# With fewer operations than this a step is done before a second thread is of use.
_WORTH_SHARING = 2e6
# A number of arrivals that no meeting comes to.
_NOBODY_WAITS = 1 << 60


class _Cores:
    """Which teams have how many cores, and which wait for some, the first that came first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = self._at_work = 0
        self._waiting: deque[object] = deque()
        self._pools: dict[int, ThreadPoolExecutor] = {}

    @contextmanager
    def some(self, wanted: int) -> Iterator[int]:
        """Have some cores for a while: at most so many, and no more than a fair part.

        Waits until at least one is free and all teams that came before have theirs.
        """
        count = self._wait_for(wanted)
        try:
            yield count
        finally:
            with self._changed:
                self._at_work -= 1
                self._taken -= count
                self._changed.notify_all()

    def _wait_for(self, wanted: int) -> int:
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                while self._waiting[0] is not turn or self._free(wanted) < 1:
                    self._changed.wait()
                count = self._free(wanted)
                self._at_work += 1
                self._taken += count
            finally:  # an interrupt may end the waiting, too
                self._waiting.remove(turn)
                self._changed.notify_all()
        return count

    def _free(self, wanted: int) -> int:
        """How many cores a team gets, those that wait counted as teams too."""
        cores = torch.get_num_threads()
        teams = self._at_work + len(self._waiting)
        return min(wanted, cores - self._taken, max(1, cores // teams))

    def helpers(self) -> ThreadPoolExecutor:
        """Threads for all teams together, of which each has one of its own.

        They all exist: an executor alone may count one as idle that it has not started.
        """
        count = max(1, torch.get_num_threads() - 1)
        with self._changed:
            if count not in self._pools:
                pool = ThreadPoolExecutor(count, thread_name_prefix="medseg-nca")
                start = threading.Barrier(count)
                wait([pool.submit(start.wait) for _ in range(count)])
                self._pools[count] = pool
            return self._pools[count]


_cores = _Cores()


def _after_fork() -> None:
    """Threads do not survive a fork, and a lock may be held by one that is gone."""
    global _cores
    _cores = _Cores()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def team_size(operations: float, jobs: int) -> int:
    """How many threads a step of so many floating-point operations deserves."""
    if operations < _WORTH_SHARING:
        return 1
    return max(1, min(torch.get_num_threads(), jobs))


def together(work: Callable[[int, int], Any], size: int, meeting: Any) -> list[Any]:
    """Call ``work(index, team)`` on threads of a team.

    While other teams are at work it is a smaller one, and it may have to wait for its turn; see the
    module. A team of one that was asked for does not wait.

    Args:
        work: releases the interpreter lock while it computes.
        size: number of threads, if nobody else wants any.
        meeting: what they meet at. If one fails, the others no longer wait for it.

    Raises:
        BaseException: what a thread raised, when all have ended.
    """
    if size == 1:
        return [work(0, 1)]
    with _cores.some(size) as count:
        return [work(0, 1)] if count == 1 else _team(work, count, meeting)


def _team(work: Callable[[int, int], Any], size: int, meeting: Any) -> list[Any]:
    others: list[Future[Any]] = []

    def guarded(index: int) -> Any:
        try:
            return work(index, size)
        except BaseException:
            meeting[0] = _NOBODY_WAITS
            raise

    try:
        helpers = _cores.helpers()
        for index in range(1, size):
            others.append(helpers.submit(guarded, index))
        return [guarded(0), *(future.result() for future in others)]
    except BaseException:
        meeting[0] = _NOBODY_WAITS
        raise
    finally:
        wait(others)
