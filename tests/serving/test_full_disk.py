"""A disk that is full for a while costs no worker its place, and no job its end."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.jobs import slot as slots
from medseg_nca.serving.jobs.records import JobOptions, new_id
from medseg_nca.serving.jobs.service import JobService, Parts
from medseg_nca.serving.jobs.store import JobStore
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.settings import Limits
from medseg_nca.serving.workers.messages import ModelInfo


class Worker:
    """Has every model, and breaks with every job."""

    alive, pid = True, 1

    def __init__(self, *args: object) -> None:
        pass

    def load(self, model: ModelInfo) -> None:
        pass

    def has(self, key: str) -> bool:
        return True

    def problem(self, key: str) -> str | None:
        return None

    def run(self, run: object) -> Future[Any]:
        raise RuntimeError

    def stop(self) -> None:
        pass


def catalogue(folder: Path) -> Any:
    info = ModelInfo("key", folder, "m", "1", "0" * 64, "0" * 64)
    served = SimpleNamespace(info=info, entry=SimpleNamespace(name="m"))
    return SimpleNamespace(
        all=(served,), wanted=lambda: (info,), get=lambda name: served, look=lambda: False,
        switch=lambda state: None,
    )  # fmt: skip


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def submit(service: JobService) -> str:
    received = service.parts.store.incoming / new_id()
    received.mkdir()
    options = JobOptions()
    return service.submit(new_id(), received, options, owner="", model="m", series="").id


def test_the_end_of_a_job_is_written_when_the_disk_has_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "WorkerProcess", Worker)
    monkeypatch.setattr(slots, "_FIRST_PAUSE", 0.02)
    store, full = JobStore(tmp_path), [True]
    real = store.fail

    def fail(*args: Any) -> bool:
        if full[0]:
            raise sqlite3.OperationalError("database or disk is full")
        return real(*args)

    monkeypatch.setattr(store, "fail", fail)
    audit = AuditLog(tmp_path)
    (tmp_path / "audit.log").mkdir()  # no line can be written
    parts = Parts(store, catalogue(tmp_path), audit, Metrics(), Limits())
    service = JobService(parts, ("cpu",), 1)
    service.start()
    assert service.ready() is None
    first = submit(service)
    until(lambda: service.ready() == "The server cannot write to its disk.")
    assert store.count("running") == 1
    full[0] = False
    second = submit(service)
    until(lambda: store.count("failed") == 2)
    assert {job.id for job in store.newest()} == {first, second}
    until(lambda: service.ready() is None)
    assert service.slots[0].is_alive()
    service.close()
    store.close()


def test_a_place_whose_thread_has_ended_makes_the_server_not_ready(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    parts = Parts(store, catalogue(tmp_path), AuditLog(tmp_path), Metrics(), Limits())
    assert "has ended" in str(JobService(parts, ("cpu",), 1).ready())
    store.close()


def fill(store: JobStore) -> None:
    with store.transaction() as database:
        for number in range(100):
            database.execute("INSERT INTO tokens VALUES (?, ?, '', 0)", (f"{number}", "x" * 4000))


def test_a_transaction_that_cannot_be_committed_leaves_the_next_one_alone(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    with store.transaction() as database:
        database.execute("PRAGMA max_page_count = 1")  # it stays at what is there
    with pytest.raises(sqlite3.OperationalError, match="full"):
        fill(store)
    with store.transaction() as database:
        assert database.execute("SELECT COUNT(*) FROM tokens").fetchone()[0] == 0
    store.close()


def test_an_image_that_cannot_be_queued_takes_no_room(tmp_path: Path) -> None:
    store, received = JobStore(tmp_path), tmp_path / "incoming" / new_id()
    received.mkdir()
    (received / "file_00001.png").write_bytes(b"x" * 10)
    with store.transaction() as database:
        database.execute("PRAGMA max_page_count = 1")  # it stays at what is there
    with pytest.raises(sqlite3.OperationalError, match="full"):
        fill_with_jobs(store, received)
    assert {folder.name for folder in store.jobs.iterdir()} == {job.id for job in store.newest()}
    store.close()


def fill_with_jobs(store: JobStore, received: Path) -> None:
    for _ in range(1000):
        received.mkdir(exist_ok=True)
        store.add(new_id(), received, JobOptions(select="x" * 4000), owner="", model="m")
