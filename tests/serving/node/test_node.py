"""The whole loop: a series is sent to a node in its own process, and its result comes back once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from tests.io.dicom.build import classic, pixels, write
from tests.serving.node.receiving import association
from tests.serving.running import PATIENCE, STARTED, start
from tests.tracking.tiny import save_tiny

pytestmark = pytest.mark.slow
COMMAND = (sys.executable, "-m", "medseg_nca", "dicom-node")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}


@contextmanager
def archive() -> Iterator[tuple[int, list[Dataset]]]:
    """A peer that takes what it is sent: its port, and what it has taken."""
    from pynetdicom import AE, StoragePresentationContexts, evt

    taken: list[Dataset] = []

    def store(event: Any) -> int:
        taken.append(event.dataset)
        return 0x0000

    ae = AE("ARCHIVE")
    ae.supported_contexts = StoragePresentationContexts
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield server.server_address[1], taken
    finally:
        server.shutdown()


def send(port: int, folder: Path, count: int = 8) -> None:
    """Send instances of a series as a scanner does; each is answered with success."""
    instances = classic(pixels((8, 14, 12)), modality="MR", SeriesDescription="T1 hippo")
    files = write(folder / "sent", instances[:count])
    with association(port, caller="SCANNER", called="MEDSEG") as peer:
        assert [peer.send_c_store(file).Status for file in files] == [0] * count


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


class Process:
    """A node that was started by the command, on a free port."""

    def __init__(self, folder: Path, *options: str) -> None:
        said, log = folder / "said", folder / "log"
        with said.open("w") as out, log.open("a") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, "--port", "0", "--device", "cpu", "--spool", "spool", "--reserve-gb",
                 "0", *options],
                cwd=folder, stdout=out, stderr=errors, text=True, env=ENVIRONMENT,
            )  # fmt: skip
        STARTED.append(self.process)
        until(lambda: said.read_text().endswith("\n") or self.process.poll() is not None)
        assert "listens on" in said.read_text(), log.read_text()
        self.port = int(said.read_text().split("port ")[1].split(";")[0])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def test_late_slices_are_a_second_version_and_each_result_comes_once(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    with archive() as (port, taken):
        options = (
            "--allow", "SCANNER@127.0.0.1", "--route", "SeriesDescription~hippo -> tiny",
            "--send-to", f"ARCHIVE@127.0.0.1:{port}", "--settle", "1", "--formats", "dicom-seg,sr",
        )  # fmt: skip
        node = Process(tmp_path, *options)
        send(node.port, tmp_path, 5)
        until(lambda: len(taken) == 2)
        send(node.port, tmp_path)
        until(lambda: len(taken) == 4)
        assert node.stop() == 0
        node = Process(tmp_path, *options)
        send(node.port, tmp_path)
        listed = subprocess.run(
            [*COMMAND, "list", "--spool", "spool", "--json"], cwd=tmp_path, env=ENVIRONMENT,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        tree = json.loads(listed.stdout)
        assert [one["state"] for one in tree["series"]] == ["submitted"]
        assert [(one["state"], one["version"]) for one in tree["jobs"]] == [
            ("done", 1),
            ("done", 2),
        ]
        assert [one["state"] for one in tree["deliveries"]] == ["stored"] * 2
        assert node.stop() == 0
    assert len({str(dataset.SOPInstanceUID) for dataset in taken}) == 4
    assert sorted(str(dataset.Modality) for dataset in taken) == ["SEG", "SEG", "SR", "SR"]
    late = [str(dataset.SeriesDescription).endswith(", version 2") for dataset in taken]
    assert late == [False, False, True, True]


def test_a_server_and_a_node_share_their_jobs_and_figures(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    (tmp_path / "node.yaml").write_text(
        "allow: SCANNER@127.0.0.1\nroute: ['-> tiny']\nport: 0\nsettle: 1\nspool: spool\n"
        "reserve_gb: 0\n"
    )
    server = start(tmp_path, "--node", "node.yaml")
    try:
        port = int(server.log.read_text().split("MEDSEG listens on 127.0.0.1 port ")[1].split()[0])
        server.ready()
        send(port, tmp_path)
        until(lambda: server.get("/v1/jobs").json()["jobs"])
        (job,) = server.get("/v1/jobs").json()["jobs"]
        assert server.wait(job)["state"] == "done"
        figures = server.get("/metrics").text
        assert "medseg_nca_node_receives 1" in figures
        assert 'medseg_nca_jobs_total{model="tiny",outcome="done"} 1' in figures
        lines = [json.loads(line) for line in (server.state / "audit.log").read_text().splitlines()]
        assert {line["user"] for line in lines if line["action"] == "job"} == {"node:SCANNER"}
    finally:
        assert server.stop() == 0
