"""Many destinations: each in its own time, each with its own end."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from medseg_nca.io.dicomweb.client import DicomWebClient
from medseg_nca.io.dicomweb.server import DicomWebServer
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.jobs.deliverer import Deliverer
from medseg_nca.serving.jobs.deliveries import Deliveries, Delivery
from medseg_nca.serving.jobs.records import JobOptions, new_id
from medseg_nca.serving.jobs.store import OUTPUT, RESULT, JobStore
from medseg_nca.serving.metrics import Metrics
from tests.io.dicomweb.peer import Peer, peer, reply

OUTPUTS = {f"dicom_{n}": {"file": f"{n}.dcm", "type": "application/dicom"} for n in ("seg", "sr")}


def refusal(*reasons: int) -> bytes:
    """What STOW-RS says of objects that are not taken (PS3.18 10.5.3)."""
    items = [{"00081155": {"vr": "UI", "Value": [f"1.2.{number}"]},
              "00081197": {"vr": "US", "Value": [reason]}}
             for number, reason in enumerate(reasons)]  # fmt: skip
    return json.dumps({"00081198": {"vr": "SQ", "Value": items}}).encode()


class Desk:
    """Jobs that are done, and peers that their results go to."""

    def __init__(self, folder: Path, stack: ExitStack, give_up: float = 86400.0) -> None:
        self.store = JobStore(folder)
        stack.callback(self.store.close)
        self.deliveries = Deliveries(self.store)
        self.metrics = Metrics()
        self.peers: dict[str, Peer] = {}
        clients = {}
        for name in ("near", "far"):
            self.peers[name] = stack.enter_context(peer())
            self.peers[name].answer = lambda handler: reply(handler, 200)
            clients[name] = DicomWebClient(DicomWebServer(self.peers[name].url, timeout=20.0))
            stack.callback(clients[name].close)
        audit = AuditLog(folder)
        self.deliverer = Deliverer(
            self.deliveries, self.store, clients, audit, self.metrics, give_up
        )
        stack.callback(self.deliverer.stop)

    def done(self) -> str:
        """A job whose results go to both."""
        received = self.store.incoming / new_id()
        received.mkdir()
        options = JobOptions(destinations=("near", "far"))
        job = self.store.add(new_id(), received, options, owner="ann", model="m")
        assert job is not None
        claimed = self.store.claim()
        assert claimed is not None
        output = self.store.folder(job.id) / OUTPUT
        output.mkdir()
        for name in ("seg", "sr"):
            (output / f"{name}.dcm").write_bytes(f"a {name}".encode())
        (output / RESULT).write_text(json.dumps({"outputs": OUTPUTS}))
        assert self.store.finish(claimed)
        self.deliveries.wake()
        return job.id

    def until(self, job: str, name: str, true: Callable[[Delivery], bool]) -> Delivery:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = self.deliveries.get(job, name)
            if found is not None and true(found):
                return found
            time.sleep(0.02)
        raise AssertionError(self.deliveries.of(job))

    def state(self, job: str, name: str, state: str) -> Delivery:
        return self.until(job, name, lambda one: one.state == state)

    def letter(self, job: str, name: str) -> Path:
        return self.store.state / "dead-letter" / job / name


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def test_a_destination_that_hangs_holds_up_no_other(tmp_path: Path, stack: ExitStack) -> None:
    desk, free = Desk(tmp_path, stack), threading.Event()
    stack.callback(free.set)

    def hang(handler: Any) -> None:
        free.wait(60)
        reply(handler, 200)

    desk.peers["far"].answer = hang
    desk.deliverer.start()
    jobs = [desk.done(), desk.done()]
    for job in jobs:
        desk.state(job, "near", "stored")
    assert [desk.deliveries.get(job, "far").state for job in jobs] == ["waiting"] * 2  # type: ignore[union-attr]
    free.set()
    for job in jobs:
        assert desk.state(job, "far", "stored").attempts == 1
    assert 'stored_total{destination="far",outcome="stored"} 2' in desk.metrics.text({})


def test_pauses_double_and_all_objects_are_sent_again(tmp_path: Path, stack: ExitStack) -> None:
    """An archive that took one of two objects gets both again, which changes nothing there."""
    desk, times = Desk(tmp_path, stack), []

    def answer(handler: Any) -> None:
        times.append(time.monotonic())
        reply(handler, 200, refusal(0xA700) if len(times) < 3 else b"")

    desk.peers["far"].answer = answer
    desk.deliverer.start()
    job = desk.done()
    assert desk.state(job, "far", "stored").attempts == 3
    assert times[1] - times[0] > 0.9
    assert times[2] - times[1] > 1.9
    bodies = desk.peers["far"].bodies
    assert all(body.count(b"a seg") == body.count(b"a sr") == 1 for body in bodies)
    assert not desk.letter(job, "far").exists()


def test_a_delivery_that_is_given_up_leaves_its_objects(tmp_path: Path, stack: ExitStack) -> None:
    desk = Desk(tmp_path, stack)
    desk.peers["far"].answer = lambda handler: reply(handler, 200, refusal(0xC000, 0xA700))
    desk.deliverer.start()
    job = desk.done()
    assert desk.state(job, "far", "failed").attempts == 1
    desk.state(job, "near", "stored")
    letter = desk.letter(job, "far")
    assert sorted(path.name for path in letter.iterdir()) == ["reason.json", "seg.dcm", "sr.dcm"]
    assert (letter / "seg.dcm").read_bytes() == b"a seg"
    said = json.loads((letter / "reason.json").read_text())
    assert (said["job"], said["destination"], said["attempts"]) == (job, "far", 1)
    assert "C000H" in said["reason"]
    assert said["time"] >= said["asked"]
    assert [path.name for path in letter.parent.iterdir()] == ["far"]

    desk.peers["far"].answer = lambda handler: reply(handler, 200)
    desk.deliveries.ask(job, "far")
    desk.state(job, "far", "stored")
    assert not letter.parent.exists()


def test_a_delivery_is_given_up_in_time_and_swept_with_its_job(
    tmp_path: Path, stack: ExitStack
) -> None:
    desk = Desk(tmp_path, stack, give_up=1.0)
    desk.peers["far"].answer = lambda handler: reply(handler, 503)
    desk.deliverer.start()
    job = desk.done()
    found = desk.state(job, "far", "failed")
    assert found.attempts >= 2
    assert "is busy. It was tried for" in str(found.reason)
    assert desk.letter(job, "far").exists()
    assert desk.store.sweep(-1.0, 10**9) == 1
    assert not (tmp_path / "dead-letter" / job).exists()
    assert desk.deliveries.of(job) == []


def test_a_name_of_a_destination_is_no_path(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    places = [store.dead_letters.place("job", name)
              for name in ("..", ".", "../..", "a/b", "AET@[::1]:104")]  # fmt: skip
    assert all(place.parent == tmp_path / "dead-letter" / "job" for place in places)
    assert all(place.name not in ("..", ".") for place in places)
    store.close()


OLD = """
CREATE TABLE jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL, model TEXT NOT NULL, state TEXT NOT NULL, options TEXT NOT NULL,
    created REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, started REAL, finished REAL,
    result TEXT NOT NULL DEFAULT '{}', failure TEXT, bytes INTEGER NOT NULL DEFAULT 0,
    series TEXT NOT NULL DEFAULT '', unwanted TEXT);
CREATE TABLE deliveries (job TEXT PRIMARY KEY, state TEXT NOT NULL, reason TEXT,
    asked REAL NOT NULL, due REAL NOT NULL, finished REAL, attempts INTEGER NOT NULL DEFAULT 0);
"""


def test_a_database_of_before_becomes_one_of_many_destinations(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "jobs.sqlite")
    old.executescript(OLD)
    base = {"kind": "dicom", "format": "", "objects": ["sr"], "probabilities": False,
            "uncertainty": 0, "image": False, "select": "", "export": "", "export_dtype": "",
            "export_compress": True}  # fmt: skip
    for job, stored in (("sent", True), ("new", True), ("kept", False)):
        old.execute(
            "INSERT INTO jobs (id, owner, model, state, options, created, result) "
            "VALUES (?, 'ann', 'm', 'done', ?, 1.0, '{}')",
            (job, json.dumps({**base, "store": stored})),
        )
    old.execute("INSERT INTO deliveries VALUES ('sent', 'failed', 'full', 1.0, 2.0, 3.0, 4)")
    old.commit()
    old.close()
    for _ in range(2):  # the second start finds nothing to do
        store = JobStore(tmp_path)
        jobs = {job.id: job.options for job in store.newest()}
        assert {name: options.destinations for name, options in jobs.items()} == {
            "sent": ("pacs",), "new": ("pacs",), "kept": (),
        }  # fmt: skip
        assert jobs["kept"] == JobOptions(kind="dicom", objects=("sr",))
        deliveries = Deliveries(store)
        assert deliveries.of("sent") == [
            Delivery("sent", "pacs", "failed", 1.0, 2.0, 3.0, 4, "full")
        ]
        due = deliveries.next("pacs")
        assert due is not None
        assert (due.job, deliveries.of("kept")) == ("new", [])
        store.close()
