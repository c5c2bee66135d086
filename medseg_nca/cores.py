"""How many processor cores a process may use."""

from __future__ import annotations

import os


def cores() -> int:
    """Return how many cores this process may use.

    These are the cores that the operating system gives the process, limited by the environment
    variable ``OMP_NUM_THREADS`` if it is a number.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return min(count, int(limit)) if limit.isdecimal() and int(limit) else count
