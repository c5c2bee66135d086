"""Orthanc pushes a series to the node, and asks it to commit itself to what it got."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.io.dicom.build import AXIAL, classic, pixels, write
from tests.orthanc import Orthanc
from tests.serving.node.receiving import AET, running, until


@pytest.mark.peer
@pytest.mark.slow
def test_orthanc_stores_and_hears_that_everything_is_kept(tmp_path: Path) -> None:
    archive = Orthanc(tmp_path / "orthanc").start()
    try:
        archive.put(write(tmp_path / "in", classic(pixels((5, 8, 8)), AXIAL, modality="MR")))
        with running(tmp_path / "node", allow=f"ORTHANC@127.0.0.1:{archive.dicom}") as node:
            place = {"AET": AET, "Host": "127.0.0.1", "Port": node.port}
            request = urllib.request.Request(
                archive.url("/modalities/node"), json.dumps(place).encode(), method="PUT"
            )
            urllib.request.urlopen(request, timeout=60).close()

            def ask(path: str, body: Any) -> Any:
                return json.loads(archive.ask(path, json.dumps(body).encode()))

            series = json.loads(archive.ask("/series"))
            assert ask("/modalities/node/echo", {}) == {}
            assert ask("/modalities/node/store", series)["FailedInstancesCount"] == 0
            assert [one.files for one in node.spool.series()] == [5]
            report = ask("/modalities/node/storage-commitment", {"Resources": series})["Path"]
            until(lambda: json.loads(archive.ask(report))["Status"] != "Pending")
            told = json.loads(archive.ask(report))
            assert (told["Status"], len(told["Success"])) == ("Success", 5)
            until(lambda: not list((node.spool.folder / ".commitments").iterdir()))
    finally:
        archive.stop()
