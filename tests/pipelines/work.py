"""Functions that worker processes are given by the tests, and clusters to give them to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from medseg_nca.errors import DataError, OutputError
from medseg_nca.io.atomic import atomic_file
from medseg_nca.job import Job

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Item:
    """Work on a number.

    Attributes:
        number: its result is the double.
        folder: where its starts are counted, and where its result is kept.
        fault: what goes wrong: "data", "output", "bug", "always killed", "killed once", "slow",
            "very slow", "writing".
    """

    number: int
    folder: Path
    fault: str = ""

    @property
    def starts(self) -> Path:
        return self.folder / f"{self.number}.starts"

    @property
    def result(self) -> Path:
        return self.folder / f"{self.number}.result"


@dataclass(frozen=True)
class Doubled:
    number: int
    process: int
    threads: str
    cached: bool = False


def double(item: Item, job: Job) -> Doubled:
    """Count the start, do as told, keep the result."""
    if item.result.exists():
        return Doubled(2 * item.number, os.getpid(), "", cached=True)
    with item.starts.open("ab") as file:
        file.write(b".")
    if item.fault == "data":
        raise DataError(f"{item.number} is bad.")
    if item.fault == "output":
        raise OutputError("the disk is full")
    if item.fault == "bug":
        raise ZeroDivisionError("a bug")
    if item.fault == "always killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if item.fault == "killed once" and item.starts.stat().st_size == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if item.fault == "writing":
        with atomic_file(item.result) as path:
            path.write_text("half")
            time.sleep(60)
    if item.fault == "slow":
        time.sleep(0.3)
    if item.fault == "very slow":
        time.sleep(60)
    item.result.write_text("done")
    return Doubled(2 * item.number, os.getpid(), os.environ.get("OMP_NUM_THREADS", ""))


def starts(folder: Path) -> dict[int, int]:
    """How often each item was begun."""
    return {int(path.stem): path.stat().st_size for path in folder.glob("*.starts")}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Cluster:
    """A scheduler and workers, each a process that nobody starts again."""

    address: str
    folder: Path
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]

    def add(self, without: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a worker in a folder of its own, to which a folder may look empty."""
        home = self.folder / f"worker_{len(self.workers)}"
        home.mkdir()
        worker = _start(
            home, "dask", "worker", self.address, "--no-nanny", "--nthreads", "1",
            "--no-dashboard", "--local-directory", str(home), "--host", "127.0.0.1",
            without=without,
        )  # fmt: skip
        self.workers.append(worker)
        return worker

    def expect(self, workers: int) -> None:
        """Wait until so many workers are there."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Cluster]:
    """A Dask cluster as a person starts it, whose workers share nothing but the disk."""
    folder.mkdir()
    port = free_port()
    scheduler = _start(
        folder, "dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"
    )
    made = Cluster(f"tcp://127.0.0.1:{port}", folder, scheduler, [])
    try:
        _wait_for(port)
        for _ in range(workers):
            made.add()
        yield made
    finally:
        for process in [*made.workers, scheduler]:
            for child in psutil.Process(process.pid).children() if process.poll() is None else ():
                child.kill()
            process.kill()
            process.wait()


def _start(folder: Path, *command: str, without: Path | None = None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-m", *command]
    if without is not None:
        call = [*_blind_to(without), *call]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(call, cwd=folder, env=environment, stdout=log, stderr=log)


def _blind_to(folder: Path) -> list[str]:
    """What a command is called by, to find a folder empty as on a machine that lacks the mount."""
    hide = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(folder)]
    try:
        subprocess.run([*hide, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs Linux and the right to mount in a namespace of its own")
    return hide


def _wait_for(port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens at port {port}")
