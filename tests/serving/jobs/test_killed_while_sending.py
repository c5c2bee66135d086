"""A server that is killed while an archive takes its results: the archive has each of them once."""

from __future__ import annotations

import threading
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from tests.io.dicom.build import AXIAL, classic, pixels, write
from tests.io.dicomweb.peer import peer, reply
from tests.orthanc import Orthanc
from tests.serving.running import start, zipped
from tests.tracking.tiny import save_tiny

pytestmark = [pytest.mark.peer, pytest.mark.slow]


def test_each_object_is_there_once(tmp_path: Path) -> None:
    archive = Orthanc(tmp_path / "orthanc").start()
    taken, killed = threading.Event(), threading.Event()

    def between(handler: Any) -> None:
        """Hand the objects on, and keep the answer back until the server is dead."""
        if handler.command == "POST":
            kind = handler.headers["Content-Type"]
            archive.ask("/dicom-web/studies", found.bodies[-1], {"Content-Type": kind})
            taken.set()
            killed.wait(120)
        reply(handler, 503)

    try:
        save_tiny(tmp_path / "tiny", seed=10)
        options = ("--models", f"tiny={tmp_path / 'tiny'}", "--studies")
        array = pixels((9, 26, 22), seed=5)
        files = write(tmp_path / "s", classic(array, AXIAL, modality="MR", series="s", study="s"))
        with peer() as found:
            found.answer = between
            server = start(tmp_path / "server", *options, found.url).ready()
            content = zipped({path.name: path.read_bytes() for path in files})
            sent = server.send(content, store="true", objects="dicom-seg,sr")
            job = server.wait(sent.json())
            assert job["state"] == "done", job
            assert taken.wait(120)
            server.kill()
            killed.set()
        before = {name: archive.files(name) for name in ("SEG", "SR")}
        assert [len(files) for files in before.values()] == [1, 1]
        server = start(tmp_path / "server", *options, archive.dicomweb)
        end = time.monotonic() + 120
        while (now := server.get(f"/v1/jobs/{job['id']}").json())["storing"]["state"] != "stored":
            assert time.monotonic() < end, now
            time.sleep(0.1)
        assert now["deliveries"][0] == {"destination": "pacs", **now["storing"]}
        assert now["storing"]["attempts"] == 2
        assert server.stop() == 0
        for name, files in before.items():
            (after,) = archive.files(name)
            assert _uid(after) == _uid(files[0])
    finally:
        killed.set()
        archive.stop()


def _uid(content: bytes) -> str:
    return str(dcmread(BytesIO(content), stop_before_pixels=True).SOPInstanceUID)
