"""How many processor cores a process may use."""

from __future__ import annotations

import os


def cores() -> int:
    """How many cores this process may use: fewer than there are where OMP_NUM_THREADS says so."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return min(count, int(limit)) if limit.isdecimal() and int(limit) else count
