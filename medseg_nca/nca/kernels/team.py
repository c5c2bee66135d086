"""Teams of threads that compute the slabs of a grid, in all as many as torch is set to use.

A team stays in compiled code for a whole roll-out, and its threads wait there for each other after
every step (``src/team.hpp``). Going back to Python after every step would take longer than a step
of a small grid.

Roll-outs that run at the same time, in several threads of Python, share the cores. Each team gets
its part of them, and a team for which no core is free waits until another roll-out ends. Teams that
wait take their turns in the order in which they came, so that a thread that begins one roll-out
after the other cannot keep the cores for itself. All teams together never have more threads than
torch is set to use, which matters because threads that wait for each other keep their cores busy.
Results do not depend on the size of a team.
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

from medseg_nca.job import Job

# A step of fewer operations ends before a second thread could help.
_WORTH_SHARING = 2e6
# Set as a meeting's count of arrivals after an error: more than any count, so no thread waits. Set
# as its counts of claims: more than there are jobs, so no thread finds one that is left.
_NOBODY_WAITS = 1 << 60


class _Cores:
    """Counts the cores that teams have taken, and keeps the order of the teams that wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = self._at_work = 0
        self._waiting: deque[object] = deque()
        self._pools: dict[int, ThreadPoolExecutor] = {}

    @contextmanager
    def some(self, wanted: int) -> Iterator[int]:
        """Take at most ``wanted`` cores and at most a fair part of all, until the block ends.

        The call waits until at least one core is free and all teams that came before have theirs.
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
        """Return how many cores a team gets now; teams that wait count for the fair part too."""
        cores = torch.get_num_threads()
        teams = self._at_work + len(self._waiting)
        return min(wanted, cores - self._taken, max(1, cores // teams))

    def helpers(self) -> ThreadPoolExecutor:
        """Return the pool of threads that all teams share.

        Each team adds its calling thread to those of the pool. All threads of the pool are started
        at once: an executor that starts threads when needed may count a thread as idle before it
        has started it.
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
    """Begin with new locks and threads in a forked process.

    The threads of the parent do not exist there, and one of them may have held a lock.
    """
    global _cores
    _cores = _Cores()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def team_size(operations: float, jobs: int) -> int:
    """Return how many threads a step with this many operations and jobs deserves."""
    if operations < _WORTH_SHARING:
        return 1
    return max(1, min(torch.get_num_threads(), jobs))


def together(work: Callable[[int, int], Any], size: int, meeting: Any) -> list[Any]:
    """Call ``work(index, team)`` on every thread of a team, and return the results by index.

    While other teams are at work, the team may be smaller than ``size``, and may have to wait for
    its turn. A call with ``size`` 1 never waits.

    Args:
        work: computes the part of thread ``index`` of ``team``; it releases the interpreter lock.
        size: number of threads wanted.
        meeting: integers by which the threads wait for each other and claim slabs in compiled code,
            int64. If a thread fails, the first integer is set so that the others no longer wait for
            it. If the job of the calling thread is cancelled, all are set so that no slab is begun.

    Raises:
        Interrupted: if the job that the calling thread works for was cancelled; what the threads
            have written is then of no use.
        BaseException: what a thread raised, after all threads have ended.
    """
    with _told_of_cancelling(meeting):
        if size == 1:
            return [work(0, 1)]
        with _cores.some(size) as count:
            return [work(0, 1)] if count == 1 else _team(work, count, meeting)


@contextmanager
def _told_of_cancelling(meeting: Any) -> Iterator[None]:
    """Let compiled code end within a slab's time once the job at work is cancelled.

    The counters are the only memory that compiled code reads again and again while Python's threads
    can write it, so they tell it, and it needs no flag of its own.

    Raises:
        Interrupted: after the block, if the job was cancelled.
    """
    job = Job.current()
    if job is None:
        yield
        return

    def leave() -> None:
        meeting[:] = _NOBODY_WAITS

    with job.when_cancelled(leave):
        yield
    job.check()


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
