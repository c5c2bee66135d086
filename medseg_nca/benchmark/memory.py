"""How much memory a piece of work takes."""

from __future__ import annotations

import gc
import re
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class PeakMemory:
    """How far the resident memory of this process rises above where it stood at the start.

    On Linux the kernel keeps a high-water mark, which is set back to the present value first. Where
    that is not possible the mark is that of the whole life of the process, and the result an upper
    bound: at least what the imports once took. So each measurement has a process of its own.
    """

    def __init__(self) -> None:
        gc.collect()
        with suppress(OSError):  # not Linux, or not permitted here
            _CLEAR.write_text("5", encoding="ascii")
        self._before = int(psutil.Process().memory_info().rss)

    def megabytes(self) -> float:
        """The rise so far, in units of 10^6 bytes."""
        return max(_high_water() - self._before, 0) / 1e6


class PeakDeviceMemory:
    """How far what torch has on the GPU rises above where it stood at the start."""

    def __init__(self) -> None:
        torch.cuda.reset_peak_memory_stats()
        self._before = torch.cuda.memory_allocated()

    def megabytes(self) -> float:
        """The rise so far, in units of 10^6 bytes."""
        return (torch.cuda.max_memory_allocated() - self._before) / 1e6


def _high_water() -> int:
    """The most bytes that this process has had in memory.

    Not ``ru_maxrss`` on Linux: a new process inherits that of the one that started it.
    """
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"))
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
