"""Results go by C-STORE to real archives that are down, refuse, or abort."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from medseg_nca.io.dimse.address import DimseAddress
from medseg_nca.io.dimse.store import DimseStorage
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.jobs.deliverer import Deliverer
from medseg_nca.serving.jobs.deliveries import Deliveries, Delivery
from medseg_nca.serving.jobs.records import JobOptions, new_id
from medseg_nca.serving.jobs.store import OUTPUT, RESULT, JobStore
from medseg_nca.serving.metrics import Metrics
from tests.io.dicom.build import AXIAL, classic, pixels, write
from tests.io.dimse.peers import storescp
from tests.orthanc import Orthanc

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def send(
    folder: Path, stack: ExitStack, addresses: Mapping[str, DimseAddress], give_up: float = 86400.0
) -> tuple[Deliveries, str]:
    """Deliver the three objects of a job that is done."""
    store = JobStore(folder)
    stack.callback(store.close)
    received = store.incoming / new_id()
    received.mkdir()
    options = JobOptions(destinations=tuple(addresses))
    job = store.add(new_id(), received, options, owner="node:SCU", model="m")
    claimed = store.claim()
    assert job is not None
    assert claimed is not None
    output = store.folder(job.id) / OUTPUT
    paths = write(output, classic(pixels((3, 8, 8)), AXIAL, modality="MR", series="s", study="s"))
    outputs = {path.stem: {"file": path.name, "type": "application/dicom"} for path in paths}
    (output / RESULT).write_text(json.dumps({"outputs": outputs}))
    assert store.finish(claimed)
    clients = {name: DimseStorage(address, "MEDSEG", timeout=10.0)
               for name, address in addresses.items()}  # fmt: skip
    deliveries = Deliveries(store)
    deliverer = Deliverer(
        deliveries, store, clients, AuditLog(folder), Metrics(), give_up
    )  # fmt: skip
    deliverer.start()
    stack.callback(deliverer.stop)
    return deliveries, job.id


def until(deliveries: Deliveries, job: str, name: str, state: str, attempts: int = 1) -> Delivery:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        found = deliveries.get(job, name)
        if found is not None and found.state == state and found.attempts >= attempts:
            return found
        time.sleep(0.05)
    raise AssertionError(deliveries.of(job))


def test_one_of_two_archives_is_down_for_a_while(tmp_path: Path, stack: ExitStack) -> None:
    up, down = (Orthanc(tmp_path / name) for name in ("up", "down"))
    stack.callback(down.stop)
    stack.callback(up.start().stop)
    addresses = {name: DimseAddress("ORTHANC", "127.0.0.1", archive.dicom)
                 for name, archive in (("up", up), ("down", down))}  # fmt: skip
    deliveries, job = send(tmp_path / "state", stack, addresses)
    assert until(deliveries, job, "up", "stored").attempts == 1
    waits = until(deliveries, job, "down", "waiting", attempts=2)
    assert waits.reason == "The destination down cannot be reached."
    down.start()
    until(deliveries, job, "down", "stored")
    assert [len(archive.files("MR")) for archive in (up, down)] == [3, 3]


def test_a_wrong_ae_title_is_told_at_once(tmp_path: Path, stack: ExitStack) -> None:
    archive = Orthanc(tmp_path / "orthanc", more={"DicomCheckCalledAet": True}).start()
    stack.callback(archive.stop)
    address = DimseAddress("SOMEBODY", "127.0.0.1", archive.dicom)
    deliveries, job = send(tmp_path / "state", stack, {"pacs1": address})
    assert until(deliveries, job, "pacs1", "failed").attempts == 1
    letter = tmp_path / "state" / "dead-letter" / job / "pacs1"
    assert len(list(letter.glob("*.dcm"))) == 3
    assert json.loads((letter / "reason.json").read_text())["attempts"] == 1


def test_an_archive_that_aborts_is_tried_again(tmp_path: Path, stack: ExitStack) -> None:
    address = stack.enter_context(storescp(tmp_path / "got", "--abort-during"))
    deliveries, job = send(tmp_path / "state", stack, {"far": address}, give_up=2.0)
    found = until(deliveries, job, "far", "failed")
    assert found.attempts >= 2
    assert "It was tried for" in str(found.reason)
    assert (tmp_path / "state" / "dead-letter" / job / "far" / "reason.json").exists()
