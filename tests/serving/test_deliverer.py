"""Results go to the archive once it takes them, and one that cannot go holds up no other."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
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

SEG = {"file": "result.dcm", "type": "application/dicom"}


class Desk:
    """Jobs that are done, and the thread that sends their results to a peer."""

    def __init__(self, folder: Path, server: Peer) -> None:
        self.auth = folder / "auth.json"
        self.auth.write_text('{"token": "right"}')
        self.store = JobStore(folder / "state")
        self.deliveries = Deliveries(self.store)
        self._client = DicomWebClient(DicomWebServer(server.url, self.auth, timeout=5.0))
        self._thread: Deliverer | None = None

    def start(self) -> None:
        audit = AuditLog(self.store.state)
        self._thread = Deliverer(
            self.deliveries, self.store, {"pacs": self._client}, audit, Metrics()
        )
        self._thread.start()

    def done(self, outputs: dict[str, Any], content: bytes = b"a SEG") -> str:
        """A job whose results are to be stored."""
        received = self.store.incoming / new_id()
        received.mkdir()
        job = self.store.add(
            new_id(), received, JobOptions(destinations=("pacs",)), owner="ann", model="m"
        )
        assert job is not None
        assert self.store.claim() is not None
        output = self.store.folder(job.id) / OUTPUT
        output.mkdir()
        (output / "result.dcm").write_bytes(content)
        (output / RESULT).write_text(json.dumps({"outputs": outputs}))
        (claimed,) = [one for one in self.store.newest() if one.id == job.id]
        assert self.store.finish(claimed)
        return job.id

    def until(self, job: str, true: Callable[[Delivery], bool]) -> Delivery:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            found = self.deliveries.get(job)
            if found is not None and true(found):
                return found
            time.sleep(0.02)
        raise AssertionError(self.deliveries.get(job))

    def close(self) -> None:
        if self._thread is not None:
            self._thread.stop()
        self._client.close()
        self.store.close()


@pytest.fixture
def server() -> Iterator[Peer]:
    with peer() as found:
        found.answer = lambda handler: reply(handler, 200)
        yield found


@pytest.fixture
def desk(tmp_path: Path, server: Peer) -> Iterator[Desk]:
    found = Desk(tmp_path, server)
    yield found
    found.close()


def test_results_that_cannot_be_sent_hold_up_no_others(desk: Desk, server: Peer) -> None:
    broken = desk.done({"dicom_seg": {}})  # as no server writes it
    good = desk.done({"dicom_seg": SEG})
    desk.start()
    assert desk.until(good, lambda one: one.state == "stored").attempts == 1
    waits = desk.until(broken, lambda one: one.attempts >= 1 and one.reason is not None)
    assert waits.state == "waiting"
    assert "fault" in str(waits.reason)
    assert waits.due > waits.asked
    assert len(server.bodies) == 1


def test_an_attempt_is_noted_before_anything_is_sent(desk: Desk, server: Peer) -> None:
    """So that a server that dies of it, or cannot write its end, does not send it at once again."""
    job, seen = desk.done({"dicom_seg": SEG}), []

    def answer(handler: Any) -> None:
        now = desk.deliveries.get(job)
        assert now is not None
        seen.append((now.state, now.attempts, now.due - now.asked > 0.9))
        reply(handler, 200)

    server.answer = answer
    desk.start()
    desk.until(job, lambda one: one.state == "stored")
    assert seen == [("waiting", 1, True)]


def test_credentials_that_are_being_renewed_lose_no_result(desk: Desk, server: Peer) -> None:
    job = desk.done({"dicom_seg": SEG})
    desk.auth.write_text("{")  # half written
    desk.start()
    assert desk.until(job, lambda one: one.reason is not None).state == "waiting"
    assert not server.asked
    desk.auth.write_text('{"token": "new"}')
    assert desk.until(job, lambda one: one.state != "waiting").state == "stored"
    assert server.asked[0][2]["Authorization"] == "Bearer new"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [(409, b"{}", "does not say"), (404, b"", "no storing"), (413, b"", "of that size")],
)
def test_what_is_no_answer_is_no_success(
    desk: Desk, server: Peer, status: int, body: bytes, words: str
) -> None:
    server.answer = lambda handler: reply(handler, status, body)
    job = desk.done({"dicom_seg": SEG})
    desk.start()
    found = desk.until(job, lambda one: one.state != "waiting")
    assert found.state == "failed"
    assert words in str(found.reason)


def test_results_that_were_removed_are_not_sent(desk: Desk, server: Peer) -> None:
    gone, kept = desk.done({"dicom_seg": SEG}), desk.done({"dicom_seg": SEG})
    (desk.store.folder(gone) / OUTPUT / "result.dcm").unlink()
    desk.start()
    assert desk.until(gone, lambda one: one.state == "failed").attempts == 1
    desk.until(kept, lambda one: one.state == "stored")
    desk.store.remove(kept)
    end = time.monotonic() + 10
    while desk.deliveries.get(kept) is not None:
        assert time.monotonic() < end
        time.sleep(0.05)
