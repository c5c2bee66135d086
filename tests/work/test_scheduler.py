"""Work on many items: outcomes, isolation, killed workers, bounded numbers, stopping."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from medseg_nca.errors import ConfigError, DependencyError, Interrupted, OutputError
from medseg_nca.job import Job, Progress
from medseg_nca.work.dask_cluster import DaskCluster
from medseg_nca.work.local_processes import LocalProcesses
from medseg_nca.work.scheduler import Outcome, SchedulerError, counted, open_scheduler, run_each
from tests.pipelines.work import ROOT, Doubled, Item, cluster, double, starts

FAULTS = {3: "data", 5: "bug"}


def items(folder: Path, count: int, faults: dict[int, str] | None = None) -> list[Item]:
    folder.mkdir(exist_ok=True)
    faults = FAULTS if faults is None else faults
    return [Item(number, folder, faults.get(number, "")) for number in range(count)]


def by_index(outcomes: Iterator[Outcome[Doubled]]) -> dict[int, Outcome[Doubled]]:
    found = {outcome.index: outcome for outcome in outcomes}
    return dict(sorted(found.items()))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_item_has_an_outcome(tmp_path: Path, workers: int) -> None:
    found = by_index(run_each(double, items(tmp_path / "w", 8), workers))
    assert list(found) == list(range(8))
    assert found[3].error == "3 is bad."
    assert found[5].error == "unexpected ZeroDivisionError: a bug"
    assert found[5].cause is not None
    assert "work.py" in found[5].cause
    results = {n: o.result.number for n, o in found.items() if o.result is not None}
    assert results == {n: 2 * n for n in range(8) if n not in FAULTS}
    elsewhere = {o.result.process for o in found.values() if o.result} != {os.getpid()}
    assert elsewhere == (workers > 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_there_already_is_said(tmp_path: Path, workers: int) -> None:
    work = items(tmp_path / "w", 3, {})
    assert not any(o.resumed for o in run_each(double, work, workers))
    assert all(o.resumed for o in run_each(double, work, workers))
    assert set(starts(tmp_path / "w").values()) == {1}


@pytest.mark.parametrize("workers", [0, 2])
def test_items_are_taken_when_there_is_room(tmp_path: Path, workers: int) -> None:
    """More items than anyone could hold: only some more than are finished are ever taken."""
    taken = 0

    def endless() -> Iterator[Item]:
        nonlocal taken
        while True:
            taken += 1
            yield Item(taken, tmp_path)

    outcomes = run_each(double, endless(), workers)
    for finished in range(1, 21):
        next(outcomes)
        assert taken <= finished + max(workers, 1)
    outcomes.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_stops_all(tmp_path: Path, workers: int) -> None:
    work = items(tmp_path / "w", 50, {2: "output"})
    with pytest.raises(OutputError, match="disk is full"):
        list(run_each(double, work, workers))
    assert len(starts(tmp_path / "w")) < 50


def test_a_killed_process_costs_one_item_at_most(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faults = {1: "always killed", 4: "killed once", **FAULTS}
    with caplog.at_level(logging.WARNING, "medseg_nca"):
        found = by_index(run_each(double, items(tmp_path / "w", 8, faults), 2))
    assert list(found) == list(range(8))
    assert found[1].error == "its worker was killed, probably for want of memory"
    assert found[4].result is not None
    assert {n for n, o in found.items() if o.error} == {1, *FAULTS}
    expected = {n: 2 if n in {1, 4} else 1 for n in range(8)}
    assert starts(tmp_path / "w") == expected
    assert len(caplog.records) == 2


def test_processes_serve_several_stages(tmp_path: Path) -> None:
    with open_scheduler(2) as scheduler:
        first = by_index(scheduler.run_each(double, items(tmp_path / "a", 6, {})))
        second = by_index(scheduler.run_each(double, items(tmp_path / "b", 6, {})))
    used = [{o.result.process for o in part.values() if o.result} for part in (first, second)]
    assert used[1] <= used[0]
    assert not any(psutil.pid_exists(pid) for pid in used[0])


def test_the_processes_share_the_cores(tmp_path: Path) -> None:
    with LocalProcesses(3, share=7) as scheduler:
        found = list(scheduler.run_each(double, items(tmp_path / "w", 4, {})))
    assert {o.result.threads for o in found if o.result} == {"2"}


def test_ctrl_c_stops_at_once_and_keeps_what_is_done(tmp_path: Path) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread alone")
    work = items(tmp_path / "w", 200, dict.fromkeys(range(200), "slow"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = run_each(double, work, 2)
    try:
        first = next(running)
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            list(running)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 5
    assert work[first.index].result.exists()
    assert not multiprocessing_children()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cancelled_job_ends_soon_and_keeps_what_is_done(tmp_path: Path, workers: int) -> None:
    work = items(tmp_path / "w", 200, dict.fromkeys(range(200), "slow"))
    job = Job()
    running = counted(run_each(double, work, workers, job=job), job, "doubling", len(work))
    first = next(running)
    began = time.monotonic()
    threading.Timer(0.1, job.cancel, ["The client has left."]).start()
    with pytest.raises(Interrupted, match="The client has left"):
        list(running)
    assert time.monotonic() - began < 5
    assert work[first.index].result.exists()
    assert not multiprocessing_children()


def test_a_cancelled_job_leaves_no_half_written_file(tmp_path: Path) -> None:
    work = items(tmp_path / "w", 2, {0: "writing", 1: "writing"})
    job = Job()
    running = run_each(double, work, 2, job=job)
    waiting = threading.Thread(target=lambda: _cancel_when(tmp_path / "w", job))
    waiting.start()
    with pytest.raises(Interrupted):
        list(running)
    waiting.join()
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == ["0.starts", "1.starts"]


def test_cancelling_while_the_processes_start_waits_for_no_item(tmp_path: Path) -> None:
    work = items(tmp_path / "w", 2, {0: "very slow", 1: "very slow"})
    job = Job()

    def cancelled_with_the_last() -> Iterator[Item]:
        yield work[0]
        job.cancel()
        yield work[1]

    began = time.monotonic()
    with pytest.raises(Interrupted):
        list(run_each(double, cancelled_with_the_last(), 2, job=job))
    assert time.monotonic() - began < 30
    assert not any(item.result.exists() for item in work)
    assert not multiprocessing_children()


def _cancel_when(folder: Path, job: Job) -> None:
    """Cancel when both workers have begun to write."""
    while len(list(folder.glob(".*.part.*"))) < 2:
        time.sleep(0.02)
    job.cancel()


def test_outcomes_are_counted(tmp_path: Path) -> None:
    heard: list[Progress] = []
    job = Job(heard.append)
    work = items(tmp_path / "w", 6)
    for _ in range(2):
        list(counted(run_each(double, work, 1, job=job), job, "doubling", len(work)))
    assert [one.done for one in heard] == [*range(7), *range(7)]
    assert {one.total for one in heard} == {6}
    assert heard[6].facts == {"resumed": 0, "failed": 2}
    assert heard[13].facts == {"resumed": 4, "failed": 2}


def multiprocessing_children() -> list[psutil.Process]:
    """Workers that this process started; servers that other tests left running have their own."""
    children = psutil.Process().children()
    return [c for c in children if "spawn_main" in " ".join(c.cmdline())]


PARENT = """
import sys
from pathlib import Path
from medseg_nca.work.scheduler import run_each
from tests.pipelines.work import Item, double

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    work = (Item(n, folder, "slow") for n in range(16))
    print(sum(not o.resumed for o in run_each(double, work, 2)))
"""


def test_a_killed_parent_takes_its_workers_along(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    folder = tmp_path / "w"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(folder)]
    parent = subprocess.Popen(command, env=environment)
    wait_until(lambda: len(list(folder.glob("*.result"))) >= 4)
    workers = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    finished = {path.stem: path.stat().st_mtime_ns for path in folder.glob("*.result")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 16 - len(finished)
    assert all((folder / f"{n}.result").stat().st_mtime_ns == t for n, t in finished.items())
    assert len(list(folder.glob("*.result"))) == 16


def wait_until(condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def test_processes_that_cannot_start_are_an_error(tmp_path: Path) -> None:
    multiprocessing.set_executable(shutil.which("false") or "false")
    try:
        with pytest.raises(SchedulerError, match="as soon as they are started"):
            list(run_each(double, items(tmp_path / "w", 4), 2))
    finally:
        multiprocessing.set_executable(sys.executable)


@pytest.mark.parametrize("address", ["host:8786", "tcp://host", "http://host:1", "tcp://a b:1"])
def test_an_address_of_another_form_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="tcp://HOST:PORT"):
        list(run_each(double, [], 0, scheduler=address, folder=tmp_path / "notes"))


def test_without_distributed_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DependencyError, match=r"'distributed'.*medseg-nca\[cluster\]"):
        list(run_each(double, [], 0, scheduler="tcp://127.0.0.1:1", folder=tmp_path / "notes"))


def test_a_scheduler_that_does_not_answer(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    with pytest.raises(SchedulerError, match=r"tcp://127\.0\.0\.1:1 does not answer"):
        DaskCluster("tcp://127.0.0.1:1", tmp_path / "notes", patience_s=0.5)
    assert not (tmp_path / "notes").exists()


@pytest.mark.slow
class TestCluster:
    """A scheduler and workers that are started by their commands."""

    @pytest.fixture(autouse=True)
    def _needs_dask(self) -> None:
        pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")

    def test_outcomes_are_those_of_one_process(self, tmp_path: Path) -> None:
        work = items(tmp_path / "w", 12)
        with cluster(tmp_path / "cluster", 2) as made:
            notes = tmp_path / "w" / "notes"
            found = by_index(run_each(double, work, 0, scheduler=made.address, folder=notes))
            assert not notes.exists()
            assert all(
                o.resumed for o in run_each(double, work[:3], 0, scheduler=made.address,
                                            folder=notes)
            )  # fmt: skip
        assert list(found) == list(range(12))
        assert {n: o.error for n, o in found.items() if o.error} == {
            3: "3 is bad.", 5: "unexpected ZeroDivisionError: a bug",
        }  # fmt: skip
        assert len({o.result.process for o in found.values() if o.result}) == 2

    def test_a_killed_worker_loses_nothing(self, tmp_path: Path) -> None:
        work = items(tmp_path / "w", 30, dict.fromkeys(range(30), "slow"))
        found: dict[int, Outcome[Doubled]] = {}
        with cluster(tmp_path / "cluster", 2) as made:
            for outcome in run_each(
                double, iter(work), 0, scheduler=made.address, folder=tmp_path / "w" / "notes"
            ):
                found[outcome.index] = outcome
                if len(found) == 8:
                    finished = [item.number for item in work if item.result.exists()]
                    made.workers[0].kill()
        assert sorted(found) == list(range(30))
        assert not any(outcome.error for outcome in found.values())
        counts = starts(tmp_path / "w")
        assert {counts[number] for number in finished} == {1}, "a finished item was done again"
        assert sum(counts.values()) <= 31, "one item was at work when the worker was killed"

    def test_an_item_that_kills_its_workers_is_given_up(self, tmp_path: Path) -> None:
        faults = {4: "always killed", 6: "killed once"}
        work = items(tmp_path / "w", 10, faults)
        with cluster(tmp_path / "cluster", 4) as made:
            found = by_index(
                run_each(double, work, 0, scheduler=made.address, folder=tmp_path / "w" / "notes")
            )
        assert {n: o.error for n, o in found.items() if o.error} == {
            4: "its worker was killed, probably for want of memory"
        }
        assert starts(tmp_path / "w") == {n: 2 if n in faults else 1 for n in range(10)}

    def test_a_full_disk_is_not_tried_on_and_on(self, tmp_path: Path) -> None:
        work = items(tmp_path / "w", 30, dict.fromkeys(range(30), "output"))
        with (
            cluster(tmp_path / "cluster", 2) as made,
            pytest.raises(OutputError, match="disk is full"),
        ):
            list(run_each(double, work, 0, scheduler=made.address, folder=tmp_path / "notes"))
        assert len(starts(tmp_path / "w")) <= 4

    def test_a_cluster_without_workers(self, tmp_path: Path) -> None:
        with (
            cluster(tmp_path / "cluster", 0) as made,
            pytest.raises(SchedulerError, match=f"has no workers.*dask worker {made.address}"),
        ):
            DaskCluster(made.address, tmp_path / "notes", patience_s=2.0)
        assert not (tmp_path / "notes").exists()

    def test_a_scheduler_that_goes_away(self, tmp_path: Path) -> None:
        work = items(tmp_path / "w", 40, dict.fromkeys(range(40), "slow"))
        with cluster(tmp_path / "cluster", 1) as made:
            running = run_each(double, work, 0, scheduler=made.address, folder=tmp_path / "notes")
            next(running)
            made.scheduler.kill()
            with pytest.raises(SchedulerError, match=r"(?s)connection .* was lost.*same command"):
                list(running)
