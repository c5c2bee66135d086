"""How a server does: seconds for one image, a crowd of clients, and the memory of a large image.

    python benchmarks/serving.py IMAGE                                    one client, --repeats 50
    python benchmarks/serving.py IMAGE --seconds 60 --clients 8 --queue 4     more than it can take
    python benchmarks/serving.py --shape 512x512x300                      one made-up large image

Each starts `medseg-nca serve` on a free port with a folder of its own, and waits until it is ready.

One client sends the image again and again: to /infer (one request), and as a job (POST, events, GET
of the label map). Median and 95th percentile are of what the client waited; processor time and
context switches (the times that a thread gave up its core to wait) are the server's and the
worker's, whatever else the machine does.

A crowd sends for --seconds; who is refused with 503 comes again after `Retry-After`. Meanwhile
/health/live is asked five times a second, and the memory of all processes is read.

A large image is sent as a job, and once more to be cancelled in the middle. The peaks of memory are
the operating system's (VmHWM, Linux).
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
import nibabel as nib
import numpy as np
import psutil

NAME = "served"
Send = Callable[[httpx.Client, bytes], httpx.Response]
About = dict[str, Any]
# Seconds between two questions whether the server lives.
PULSE = 0.2


@dataclass(frozen=True)
class Target:
    """A server that was started to be measured."""

    url: str
    server: psutil.Process
    worker: psutil.Process

    def client(self) -> httpx.Client:
        """A new client."""
        return httpx.Client(base_url=self.url, timeout=600, trust_env=False)

    @property
    def memory(self) -> float:
        """Resident memory of all processes together, 10^6 bytes."""
        every = (self.server, *self.server.children(recursive=True))
        return sum(process.memory_info().rss for process in every) / 1e6

    @property
    def work(self) -> tuple[float, float, int]:
        """Processor seconds of the server and of the worker, and context switches of both."""
        both = (self.server, self.worker)
        server, worker = (sum(process.cpu_times()[:2]) for process in both)
        return server, worker, sum(process.num_ctx_switches().voluntary for process in both)


@contextmanager
def serving(model: str, queue: int) -> Iterator[Target]:
    """Start a server, and end it as an init system does."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--models", f"{NAME}={model}", "--port", "0", "--state", f"{folder}/state"]
        command = [sys.executable, "-m", "medseg_nca", "serve", *options, "--queue", str(queue)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            while httpx.get(f"{url}/health/ready", trust_env=False).status_code != 200:
                time.sleep(0.05)
            server = psutil.Process(process.pid)
            (worker,) = (child for child in server.children(recursive=True)
                         if "spawn_main" in " ".join(child.cmdline()))  # fmt: skip
            yield Target(url, server, worker)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def infer(client: httpx.Client, image: bytes) -> httpx.Response:
    """One request; the answer is the label map."""
    return client.post(f"/infer/{NAME}?output=image", files={"file": ("a", image)})


def job(client: httpx.Client, image: bytes) -> httpx.Response:
    """A job, watched by its events; the answer is its label map."""
    answer = client.post("/v1/jobs", files={"file": ("a", image)}, data={"model": NAME})
    if answer.status_code != 202:
        return answer
    place = answer.headers["location"]
    with client.stream("GET", f"{place}/events") as events:
        for _ in events.iter_lines():
            pass
    return client.get(f"{place}/outputs/label_map")


def one_client(target: Target, image: bytes, repeats: int, send: Send) -> None:
    """Print what one client waits, and what that costs."""
    waited = []
    with target.client() as client:
        for _ in range(3):  # warm
            send(client, image).raise_for_status()
        before = target.work
        for _ in range(repeats):
            begin = time.perf_counter()
            send(client, image).raise_for_status()
            waited.append(time.perf_counter() - begin)
        after = target.work
    server, worker, switches = ((b - a) / repeats for a, b in zip(before, after, strict=True))
    print(
        f"{send.__name__:6} {_spread(waited)}   processor: server {server * 1000:.0f} ms, worker "
        f"{worker * 1000:.0f} ms   context switches {switches:.0f}"
    )


def _spread(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=20)
    p50, p95 = statistics.median(seconds) * 1000, cuts[18] * 1000
    return f"p50 {p50:6.0f} ms   p95 {p95:6.0f} ms   n {len(seconds)}"


@dataclass
class Crowd:
    """What many clients at once have seen.

    Attributes:
        waited: seconds for each answer 200.
        statuses: how often each was answered; 0 is none at all.
        without_retry_after: answers 503 without the seconds to wait.
        live: seconds for each answer of /health/live.
        not_live: how often that was another one than 200.
        memory: of all processes, 10^6 bytes, from the beginning to the end.
    """

    waited: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0
    live: list[float] = field(default_factory=list)
    not_live: int = 0
    memory: list[float] = field(default_factory=list)

    def client(self, target: Target, image: bytes, end: float) -> None:
        """Send until the time is up."""
        with target.client() as client:
            while time.monotonic() < end:
                begin = time.monotonic()
                try:
                    answer = infer(client, image)
                except httpx.HTTPError:
                    self.statuses[0] += 1
                    continue
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    self.waited.append(time.monotonic() - begin)
                    continue
                pause = answer.headers.get("retry-after", "")
                self.without_retry_after += answer.status_code == 503 and not pause.isdecimal()
                time.sleep(min(float(pause or 1), max(end - time.monotonic(), 0)))

    def pulse(self, target: Target, end: float) -> None:
        """Ask whether the server lives, and read its memory, until the time is up."""
        with target.client() as client:
            while time.monotonic() < end:
                begin = time.monotonic()
                self.not_live += client.get("/health/live").status_code != 200
                self.live.append(time.monotonic() - begin)
                self.memory.append(target.memory)
                time.sleep(PULSE)

    def show(self, seconds: float) -> None:
        """Print it."""
        print(f"answers {_spread(self.waited)}   {len(self.waited) / seconds * 60:.0f} a minute")
        names = {200: "200", 503: "503 with Retry-After", 0: "no answer"}
        print("statuses", ", ".join(f"{names.get(status, status)}: {count}" for status, count
                                    in sorted(self.statuses.items())),
              f"   503 without it: {self.without_retry_after}")  # fmt: skip
        print(f"/health/live p50 {statistics.median(self.live) * 1000:.0f} ms, longest "
              f"{max(self.live) * 1000:.0f} ms of {len(self.live)}")  # fmt: skip
        first, middle, last = (self.memory[n] for n in (0, len(self.memory) // 2, -1))
        print(f"memory at the beginning {first:.0f} MB, in the middle {middle:.0f} MB, at the end "
              f"{last:.0f} MB")  # fmt: skip


def crowd(target: Target, image: bytes, clients: int, seconds: float) -> Crowd:
    """Let several clients send at the same time."""
    found, end = Crowd(), time.monotonic() + seconds
    with target.client() as client:
        infer(client, image).raise_for_status()  # warm
    threads = [threading.Thread(target=found.pulse, args=(target, end))]
    threads += [
        threading.Thread(target=found.client, args=(target, image, end)) for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def large(target: Target, shape: tuple[int, ...]) -> None:
    """Print what one large image takes, and how soon it ends when it is cancelled."""
    image = made_up(shape)
    print(f"{'x'.join(map(str, shape))} int16, {len(image) / 1e6:.0f} MB as .nii")
    print("before:", peaks(target))
    with target.client() as client:
        begin = time.monotonic()
        place = posted(client, image)
        print(f"202 after {time.monotonic() - begin:.1f} s:", peaks(target))
        found = until(client, place, lambda about: about["state"] not in ("queued", "running"))
        print(f"{found['state']} after {time.monotonic() - begin:.0f} s:", peaks(target))
        place = posted(client, image)
        until(client, place, lambda about: about.get("progress", {}).get("share", 0) > 0.3
              and about["progress"]["phase"] != "reading")  # fmt: skip
        begin = time.monotonic()
        client.delete(place)
        found = until(client, place, lambda about: about["state"] not in ("queued", "running"))
        print(f"{found['state']} {time.monotonic() - begin:.2f} s after DELETE; worker "
              f"{'lives' if target.worker.is_running() else 'was killed'}")  # fmt: skip


def made_up(shape: tuple[int, ...]) -> bytes:
    """A .nii of smooth noise."""
    noise = np.random.default_rng(0).normal(0, 300, shape).astype(np.float32)
    array = (noise + np.linspace(0, 1000, shape[0])[:, None, None]).astype(np.int16)
    return bytes(nib.Nifti1Image(array, np.eye(4)).to_bytes())


def posted(client: httpx.Client, image: bytes) -> str:
    """Send a job; where it is."""
    answer = client.post("/v1/jobs", files={"file": ("a", image)}, data={"model": NAME})
    answer.raise_for_status()
    return str(answer.headers["location"])


def until(client: httpx.Client, place: str, found: Callable[[About], bool]) -> About:
    """Look at a job twenty times a second until something is so, or it has ended."""
    while True:
        about: About = client.get(place).json()
        if found(about) or about["state"] in ("done", "failed", "cancelled"):
            return about
        time.sleep(0.05)


def peaks(target: Target) -> str:
    """The most memory that each process has had."""
    found = []
    for name, process in (("server", target.server), ("worker", target.worker)):
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        found.append(f"{name} {int(line.split()[1]) * 1024 / 1e6:.0f} MB")
    return "peak " + ", ".join(found)


@click.command()
@click.argument("image", type=click.Path(exists=True, path_type=Path), required=False)
@click.option("--model", default="zoo:hippocampus", show_default=True)
@click.option("--repeats", default=50, show_default=True, help="Of one client.")
@click.option("--clients", default=1, show_default=True)
@click.option("--seconds", default=60.0, show_default=True, help="That several clients send.")
@click.option("--queue", default=16, show_default=True)
@click.option("--shape", help="Send an image of so many voxels instead, for example 512x512x300.")
@click.option("--json", "as_json", is_flag=True, help="Of several clients.")
def main(
    image: Path | None, model: str, repeats: int, clients: int, seconds: float, queue: int,
    shape: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure a server that is started for it."""
    if (image is None) == (shape is None):
        raise click.UsageError("Name an image, or --shape.")
    begin = time.perf_counter()
    with serving(model, queue) as target:
        if not as_json:
            print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; ready after "
                  f"{time.perf_counter() - begin:.1f} s; {target.memory:.0f} MB")  # fmt: skip
        if shape is not None:
            large(target, tuple(int(size) for size in shape.split("x")))
        elif image is not None and clients == 1:
            for send in (infer, job):
                one_client(target, image.read_bytes(), repeats, send)
        elif image is not None:
            found = crowd(target, image.read_bytes(), clients, seconds)
            print(json.dumps(vars(found))) if as_json else found.show(seconds)
        if not as_json:
            print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
