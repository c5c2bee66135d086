"""How long a server takes for one image, from the request to the bytes of the label map.

    python benchmarks/serving.py IMAGE [--model zoo:hippocampus] [--repeats 50] [--clients 1]

Starts `medseg-nca serve` on a free port with a folder of its own, waits until it is ready, and
sends the image again and again: to /infer (one request), and as a job (POST, events, GET of the
label map). The table has the median and the 95th percentile of what the client waited, and beside
them what the server computed of it. With --clients several send at the same time, and requests that
found the queue full are counted.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click
import httpx
import psutil

NAME = "served"


def infer(client: httpx.Client, image: bytes) -> tuple[int, float]:
    """One request; the status, and the seconds that the server computed."""
    answer = client.post(f"/infer/{NAME}?output=image", files={"file": ("a", image)})
    return answer.status_code, 0.0


def job(client: httpx.Client, image: bytes) -> tuple[int, float]:
    """A job, watched by its events, and its label map."""
    answer = client.post("/v1/jobs", files={"file": ("a", image)}, data={"model": NAME})
    if answer.status_code != 202:
        return answer.status_code, 0.0
    place = answer.headers["location"]
    with client.stream("GET", f"{place}/events") as events:
        for _ in events.iter_lines():
            pass
    seconds = float(client.get(place).json()["seconds"])
    return client.get(f"{place}/outputs/label_map").status_code, seconds


def measure(
    url: str, image: bytes, repeats: int, send: Callable[[httpx.Client, bytes], tuple[int, float]]
) -> tuple[list[float], list[float], int]:
    """What the client waited each time, what was computed, and how many were refused."""
    waited, computed, refused = [], [], 0
    with httpx.Client(base_url=url, timeout=600, trust_env=False) as client:
        send(client, image)  # warm
        for _ in range(repeats):
            begin = time.perf_counter()
            status, seconds = send(client, image)
            if status == 503:
                refused += 1
                continue
            if status != 200:
                raise click.ClickException(f"the server answered {status}")
            waited.append(time.perf_counter() - begin)
            computed.append(seconds)
    return waited, computed, refused


def line(name: str, seconds: list[float]) -> str:
    """Median and 95th percentile."""
    cuts = statistics.quantiles(seconds, n=20)
    p50, p95 = statistics.median(seconds) * 1000, cuts[18] * 1000
    return f"{name:30} p50 {p50:8.0f} ms   p95 {p95:8.0f} ms   n {len(seconds)}"


def memory(process: int) -> float:
    """Of a process and its children, 10^6 bytes."""
    parent = psutil.Process(process)
    return sum(p.memory_info().rss for p in (parent, *parent.children(recursive=True))) / 1e6


def processor(process: int) -> float:
    """Seconds of processor time of a process and its children, whatever else the machine does."""
    parent = psutil.Process(process)
    times = [p.cpu_times() for p in (parent, *parent.children(recursive=True))]
    return sum(each.user + each.system for each in times)


@click.command()
@click.argument("image", type=click.Path(exists=True, path_type=Path))
@click.option("--model", default="zoo:hippocampus", show_default=True)
@click.option("--repeats", default=50, show_default=True)
@click.option("--clients", default=1, show_default=True)
@click.option("--queue", default=16, show_default=True)
def main(image: Path, model: str, repeats: int, clients: int, queue: int) -> None:
    """Measure a server that is started for it."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--models", f"{NAME}={model}", "--port", "0", "--state", f"{folder}/state"]
        command = [sys.executable, "-m", "medseg_nca", "serve", *options, "--queue", str(queue)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        begin = time.perf_counter()
        url = process.stdout.readline().split()[-1]
        while httpx.get(f"{url}/health/ready", trust_env=False).status_code != 200:
            time.sleep(0.05)
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; ready after "
              f"{time.perf_counter() - begin:.1f} s; {memory(process.pid):.0f} MB")  # fmt: skip
        content = image.read_bytes()
        if clients == 1:
            before = processor(process.pid)
            waited, _, _ = measure(url, content, repeats, infer)
            used = (processor(process.pid) - before) / (repeats + 1) * 1000
            print(line("infer, in all", waited) + f"   processor {used:.0f} ms")
            waited, computed, _ = measure(url, content, repeats, job)
            print(line("job, in all", waited))
            print(line("  of it in the worker", computed))
        else:
            crowd(url, content, repeats, clients)
        print(f"load {os.getloadavg()[0]:.1f}; {memory(process.pid):.0f} MB at the end")
        process.send_signal(signal.SIGTERM)
        process.wait()


def crowd(url: str, image: bytes, repeats: int, clients: int) -> None:
    """Several clients at the same time."""
    results: list[tuple[list[float], list[float], int]] = []

    def client() -> None:
        results.append(measure(url, image, repeats, infer))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    waited = [value for result in results for value in result[0]]
    print(line(f"infer, {clients} clients", waited))
    refused = sum(result[2] for result in results)
    print(f"{len(waited) / seconds * 60:.0f} a minute; {refused} found the queue full (503)")


if __name__ == "__main__":
    main()
