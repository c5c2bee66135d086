"""Cases a minute and memory over many cases: one process, two, and the workers of a Dask cluster.

    python benchmarks/size.py [--cases 500] [--command predict] [--out FILE]

Phantoms go through the command as a user calls it. Memory is what the processes have in memory
(RSS), looked at several times a second; it must be the same after 100 cases and after all of them.
Rates are those between the first finished case and the last: starting takes seconds in any case.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import psutil

from medseg_nca.benchmark.machine import describe, load_average
from medseg_nca.datasets.adapters.phantom import write_phantom

EARLY = 100
PAUSE = 0.25
WAYS = ("1 process", "2 processes", "Dask, 1 worker", "Dask, 2 workers")
# Of the phantom; each size is about this. A hippocampus has some 36 x 50 x 35 voxels.
SIZE = (32, 40, 32)
Processes = dict[str, list[psutil.Process]]


@dataclass
class Row:
    """What was measured of one way; memory in megabytes, of the largest process of its kind.

    Attributes:
        early: after :data:`EARLY` cases.
        late: after the last case.
        peak: at any time.
        cpu_seconds_per_case: of all processes, their start included; other work on the machine
            disturbs it less than it does the rate.
    """

    command: str
    way: str
    cases: int = 0
    seconds: float = 0.0
    cases_per_minute: float = 0.0
    cpu_seconds_per_case: float = 0.0
    early: dict[str, float] = field(default_factory=dict)
    late: dict[str, float] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)


def megabytes(processes: Processes) -> dict[str, float]:
    """The largest process of each kind."""
    found = {}
    for kind, members in processes.items():
        sizes = [size for member in members if (size := _rss(member)) is not None]
        if sizes:
            found[kind] = round(max(sizes) / 1e6, 1)
    return found


def _rss(process: psutil.Process) -> int | None:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return None


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _rss_or_0(process: psutil.Process) -> int:
    return _rss(process) or 0


def watch(
    command: subprocess.Popen[bytes], row: Row, folder: Path, suffix: str, workers: Any
) -> None:
    """Look at memory and finished cases until the command has ended."""
    parent = psutil.Process(command.pid)
    began = time.perf_counter()
    first: tuple[float, int] | None = None
    last = (began, 0)
    idle = sum(map(_cpu, workers or []))
    busy = 0.0
    while command.poll() is None:
        time.sleep(PAUSE)
        now = time.perf_counter()
        count = sum(1 for _ in folder.glob(f"[!.]*{suffix}"))
        if count and first is None:
            first = (now, count)
        if count > last[1]:
            last = (now, count)
        try:
            children = parent.children()
        except psutil.NoSuchProcess:
            break
        memory = megabytes({"parent": [parent], "worker": workers or children})
        for kind, size in memory.items():
            row.peak[kind] = max(size, row.peak.get(kind, 0))
        if count >= EARLY and not row.early:
            row.early = memory
        if count < row.cases or not row.late:
            row.late = memory
        busy = max(busy, sum(map(_cpu, [parent, *(workers or children)])) - idle)
    row.seconds = round(time.perf_counter() - began, 1)
    row.cpu_seconds_per_case = round(busy / row.cases, 3)
    if first is not None and last[0] > first[0]:
        row.cases_per_minute = round(60 * (last[1] - first[1]) / (last[0] - first[0]), 1)


@contextmanager
def cluster(workers: int, folder: Path) -> Iterator[tuple[str, list[psutil.Process]]]:
    """A Dask scheduler with workers, each of one thread."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    commands = [["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]]
    commands += [
        ["worker", address, "--nthreads", threads, "--no-dashboard",
         "--host", "127.0.0.1", "--local-directory", str(folder)]
    ] * workers  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]  # fmt: skip
    try:
        time.sleep(8)
        nannies = [psutil.Process(process.pid) for process in started[1:]]
        # Dask's nanny starts the worker, and a helper of Python's beside it.
        yield address, [max(nanny.children(), key=_rss_or_0) for nanny in nannies]
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def arguments(command: str, data: Path, out: Path) -> tuple[list[str], Path, str]:
    """The command, and the files by which its finished cases are counted."""
    model = ["--model", "zoo:hippocampus", "--out", str(out)]
    match command:
        case "predict":
            return ["predict", *model, str(data / "imagesTr")], out, ".nii.gz"
        case "evaluate":
            return (
                ["evaluate", *model, "--data", str(data), "--save-predictions"],
                (out / "predictions"),
                ".nii.gz",
            )
        case _:
            return ["preprocess", "--data", str(data), "--out", str(out)], out / "cases", ".npz"


def measure(command: str, way: str, data: Path, folder: Path, cases: int) -> Row:
    """Run the command in one way."""
    row = Row(command, way, cases)
    call, counted, suffix = arguments(command, data, folder / f"{command} {way}")
    call = [sys.executable, "-m", "medseg_nca", "-q", *call]
    count = 2 if "2" in way else 1
    if "Dask" in way:
        with cluster(count, folder) as (address, workers):
            _run([*call, "--scheduler", address], row, counted, suffix, workers)
    else:
        _run([*call, "--workers", str(count)], row, counted, suffix, None)
    return row


def _run(call: list[str], row: Row, folder: Path, suffix: str, workers: Any) -> None:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(call, stdout=log, stderr=log)
        watch(process, row, folder, suffix, workers)
        if process.wait():
            log.seek(0)
            raise click.ClickException(log.read().decode(errors="replace")[-2000:])


def relabel(data: Path) -> None:
    """Call two labels as those of the model are called, so that it can be evaluated."""
    path = data / "dataset.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    tree["labels"] = {"0": "background", "1": "Anterior", "2": "Posterior", "3": "lesion"}
    path.write_text(json.dumps(tree), encoding="utf-8")


@click.command()
@click.option("--cases", default=500, show_default=True)
@click.option(
    "--command",
    "commands",
    multiple=True,
    type=click.Choice(["predict", "evaluate", "preprocess"]),
    help="What to measure; predict if not given.",
)
@click.option("--way", "ways", multiple=True, type=click.Choice(WAYS), help="All if not given.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file for the result.")
def main(cases: int, commands: tuple[str, ...], ways: tuple[str, ...], out: Path | None) -> None:
    """Measure, print a table and write the numbers."""
    load = load_average()
    rows = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        data = write_phantom(folder / "data", cases=cases, size=SIZE)
        relabel(data)
        click.echo(
            "| command | way | cases/min | CPU s/case | parent MB, 100 / all / peak | worker MB |"
        )
        click.echo("|---|---|---|---|---|---|")
        for command in commands or ("predict",):
            for way in ways or WAYS:
                row = measure(command, way, data, folder, cases)
                rows.append(row)
                cells = [
                    " / ".join(str(part.get(kind, "–")) for part in (row.early, row.late, row.peak))
                    for kind in ("parent", "worker")
                ]
                rate = f"{row.cases_per_minute:.0f}"
                cpu = f"{row.cpu_seconds_per_case:.2f}"
                click.echo(f"| {command} | {way} | {rate} | {cpu} | {cells[0]} | {cells[1]} |")
    result = {"machine": describe(), "load_before": load, "rows": [asdict(row) for row in rows]}
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
