"""Running something often enough to know how long it takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from medseg_nca.benchmark.memory import PeakDeviceMemory, PeakMemory

_MOST_RUNS = 1000


@dataclass(frozen=True)
class Effort:
    """How much time a measurement may take.

    Attributes:
        threads: that torch and the engines use.
        seconds: runs are repeated until this is used up; there is one in any case.
        repeats: this many runs instead.
    """

    threads: int
    seconds: float = 2.0
    repeats: int | None = None


def run_times(action: Callable[[], object], effort: Effort) -> list[float]:
    """Seconds of each run."""
    times: list[float] = []
    most = effort.repeats or _MOST_RUNS
    while len(times) < most and (effort.repeats or not times or sum(times) < effort.seconds):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return times


def measure(action: Callable[[], object], effort: Effort, device: str = "cpu") -> dict[str, float]:
    """Run once to warm up, then repeatedly; returns time in seconds and memory in MB.

    The median is robust against other work on the machine; the best run is given beside it. On a
    GPU ("cuda") a run ends when the device has done its work, and the memory is the device's.
    """
    if device != "cpu":
        action = _waited_for(action)
    peak = PeakMemory() if device == "cpu" else PeakDeviceMemory()
    action()
    times = run_times(action, effort)
    return {
        "seconds": statistics.median(times),
        "best_seconds": min(times),
        "repeats": len(times),
        "peak_mb": peak.megabytes(),
    }


def _waited_for(action: Callable[[], object]) -> Callable[[], object]:
    def both() -> None:
        action()
        torch.cuda.synchronize()

    return both
