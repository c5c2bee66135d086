"""Threads that compute slabs together, as many as torch is set to use."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

# A phase with fewer operations than this is done before a second thread would have begun.
_WORTH_SHARING = 3e6


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, thread_name_prefix="medseg-nca")


if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=_pool.cache_clear)


def team_size(operations: float, jobs: int) -> int:
    """How many threads a phase of so many floating-point operations deserves."""
    if operations < _WORTH_SHARING:
        return 1
    return max(1, min(torch.get_num_threads(), jobs))


def together(work: Callable[[int], bool], size: int) -> bool:
    """Call ``work`` with 0, 1, ... on ``size`` threads, this one among them; True if any is.

    Args:
        work: releases the interpreter lock while it computes.
        size: number of threads.
    """
    if size == 1:
        return work(0)
    others = [_pool(size - 1).submit(work, index) for index in range(1, size)]
    result = work(0)
    return any([result, *(future.result() for future in others)])
