"""Which process works on a trial, and whether it is still alive."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

# Seconds between two signs of life of a worker, and seconds without one after which it is dead.
BEAT, GRACE = 10.0, 60.0


@dataclass(frozen=True)
class Owner:
    """A process that works on a trial.

    Attributes:
        machine: a text that no other machine or container has.
        process: number of the process.
        started: when the process started, because numbers of processes are used again: seconds
            to two decimals, on Linux since the machine started, elsewhere since 1970.
    """

    machine: str
    process: int
    started: float

    def __str__(self) -> str:
        return f"{self.machine}/{self.process}/{self.started:.2f}"

    @classmethod
    def of(cls, process: int) -> Owner:
        """Return a process of this machine.

        Raises:
            psutil.Error: if there is no such process.
        """
        return cls(this_machine(), process, _started(process))

    @classmethod
    def of_this_process(cls) -> Owner:
        """Return this process."""
        return cls.of(os.getpid())

    @classmethod
    def parsed(cls, text: object) -> Owner | None:
        """Return the owner that a text names; None if it names none."""
        parts = str(text).split("/")
        try:
            return cls(parts[0], int(parts[1]), float(parts[2]))
        except (IndexError, ValueError):
            return None

    @property
    def is_here(self) -> bool:
        """Whether the process is or was one of this machine."""
        return self.machine == this_machine()

    @property
    def is_alive(self) -> bool:
        """Whether the process of this machine still works; a zombie does not."""
        try:
            same = abs(_started(self.process) - self.started) < 0.02
            return same and psutil.Process(self.process).status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def _started(process: int) -> float:
    """Return when a process started, to two decimals, which is what the text of an owner keeps."""
    try:  # Linux: psutil adds the time at which the machine started, which moves with the clock
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return round(int(words[19]) / os.sysconf("SC_CLK_TCK"), 2)
    except (OSError, IndexError, ValueError, AttributeError):
        return round(float(psutil.Process(process).create_time()), 2)


@cache
def this_machine() -> str:
    """Return a text that stands for this machine since it started, or for this container."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


@dataclass
class LifeWatch:
    """Tells whether the owners of trials are alive.

    An owner on this machine is looked up. One on another machine must change its sign of life; how
    long it has not done so is measured by the clock of this machine, so that clocks may differ.

    Attributes:
        grace: seconds without a sign of life after which a worker is dead.
        clock: returns a time in seconds.
    """

    grace: float = GRACE
    clock: Callable[[], float] = time.monotonic
    _seen: dict[int, tuple[object, float]] = field(default_factory=dict)

    def is_dead(self, trial: int, owner: Owner | None, sign: object) -> bool:
        """Return whether the owner of a trial is dead.

        Args:
            trial: number of the trial.
            owner: its owner; None if it is not known.
            sign: the last sign of life.
        """
        if owner is not None and owner.is_here:
            self._seen.pop(trial, None)
            return not owner.is_alive
        now = self.clock()
        before = self._seen.get(trial)
        if before is None or before[0] != sign:
            self._seen[trial] = (sign, now)
            return False
        return now - before[1] > self.grace
