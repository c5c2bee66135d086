"""Every output goes to a real Orthanc by C-STORE and STOW-RS, and comes back pixel for pixel."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg_nca.io.dicom.objects.export import write_series
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_result, write_results
from tests.io.writers import results

pytestmark = [pytest.mark.peer, pytest.mark.slow]
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
FORMATS = ("dicom-seg", "rtstruct", "sr", "sc")


@dataclasses.dataclass(frozen=True)
class Orthanc:
    """A running archive that keeps what it gets in a temporary folder."""

    http: int
    dicom: int

    def c_store(self, path: Path) -> None:
        """Send by storescu; -R proposes only what is sent, which SEG and SR need."""
        command = ["storescu", "-R", "-aet", "TEST", "-aec", "ORTHANC"]
        target = ["127.0.0.1", str(self.dicom), str(path)]
        done = subprocess.run(
            [*command, *target], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr

    def stow(self, path: Path) -> None:
        """Send by STOW-RS (PS3.18 10.5)."""
        head = b"--part\r\nContent-Type: application/dicom\r\n\r\n"
        body = head + path.read_bytes() + b"\r\n--part--\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary=part'
        reply = json.loads(
            self.ask(
                "/dicom-web/studies",
                body,
                {"Content-Type": kind, "Accept": "application/dicom+json"},
            )
        )
        assert not reply.get("00081198", {}).get("Value")  # Failed SOP Sequence
        assert len(reply["00081199"]["Value"]) == 1

    def wado(self, dataset: pydicom.Dataset, folder: Path) -> pydicom.Dataset:
        """Fetch an instance by WADO-RS."""
        url = (
            f"/dicom-web/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
            f"/instances/{dataset.SOPInstanceUID}"
        )
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        request = urllib.request.Request(self.url(url), headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=60) as reply:
            kind, body = Message(), reply.read()
            kind["Content-Type"] = reply.headers["Content-Type"]
        boundary = b"--" + str(kind.get_param("boundary")).encode()
        part = body.split(boundary)[1]
        folder.mkdir(exist_ok=True)
        file = folder / "back.dcm"
        file.write_bytes(part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n"))
        return pydicom.dcmread(file)

    def forget(self) -> None:
        """Remove everything."""
        for study in json.loads(self.ask("/studies")):
            request = urllib.request.Request(self.url(f"/studies/{study}"), method="DELETE")
            urllib.request.urlopen(request, timeout=60).close()

    def ask(self, path: str, body: bytes | None = None, headers: dict | None = None) -> bytes:
        request = urllib.request.Request(self.url(path), body, headers or {})
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.read()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http}{path}"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Orthanc on ports of its own with an empty storage; stopped at the end."""
    missing = [name for name in ("Orthanc", "storescu") if shutil.which(name) is None]
    if missing or not PLUGIN.exists():
        pytest.skip("Orthanc is not installed (Debian: orthanc orthanc-dicomweb dcmtk)")
    folder = tmp_path_factory.mktemp("orthanc")
    server = Orthanc(_free_port(), _free_port())
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": server.http,
        "DicomPort": server.dicom,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomAlwaysAllowStore": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [str(shutil.which("Orthanc")), str(folder / "orthanc.json")],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
        ) as process,
    ):
        try:
            _wait(server, process, folder / "log")
            yield server
        finally:
            process.terminate()
            process.wait(30)


def _wait(server: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(120):
        if process.poll() is not None:
            pytest.fail(f"Orthanc stopped: {log.read_text(errors='replace')[-2000:]}")
        try:
            server.ask("/system")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.25)
        else:
            return
    pytest.fail("Orthanc does not answer")


def _assert_same(back: pydicom.Dataset, sent: pydicom.Dataset) -> None:
    """Nothing is lost or changed, the pixels least of all."""
    for dataset in (back, sent):
        dataset.remove_private_tags()
    if "PixelData" in sent:
        assert np.array_equal(back.pixel_array, sent.pixel_array)
    assert back.to_json_dict() == sent.to_json_dict()


@pytest.mark.parametrize("way", ["c_store", "stow"])
@pytest.mark.parametrize("found", [True, False], ids=["labels", "empty"])
@pytest.mark.parametrize("kind", ["axial", "oblique"])
def test_every_output_comes_back(
    tmp_path: Path, orthanc: Orthanc, kind: str, found: bool, way: str
) -> None:
    image = results.series(tmp_path / "series", kind)
    segmentation = results.result(image) if found else results.empty(image)
    segmentation = dataclasses.replace(
        segmentation, probabilities=results.probabilities(segmentation), quality={"spread": 0.1}
    )
    written = list(write_results(segmentation, tmp_path / "out", FORMATS).values())
    written.append(
        write_result(segmentation, tmp_path / "more", "dicom-seg", seg_type="fractional")
    )
    for path in (*image.sources, *written):
        getattr(orthanc, way)(path)
    for path in written:
        sent = pydicom.dcmread(path)
        _assert_same(orthanc.wado(sent, tmp_path / "back"), sent)
    orthanc.forget()


def test_a_label_map_is_taken_by_stow(tmp_path: Path, orthanc: Orthanc) -> None:
    """Orthanc 1.10 does not know the class of label maps for C-STORE; STOW-RS takes it."""
    image = results.series(tmp_path / "series", "oblique")
    path = write_result(results.result(image), tmp_path / "out", "dicom-seg", seg_type="labelmap")
    orthanc.stow(path)
    sent = pydicom.dcmread(path)
    _assert_same(orthanc.wado(sent, tmp_path / "back"), sent)
    orthanc.forget()


@pytest.mark.parametrize("way", ["c_store", "stow"])
def test_an_exported_series_comes_back(tmp_path: Path, orthanc: Orthanc, way: str) -> None:
    array = np.random.default_rng(0).normal(size=(1, 6, 5, 3))
    for path in write_series(Volume(array, np.eye(4)), tmp_path / "series"):
        getattr(orthanc, way)(path)
        sent = pydicom.dcmread(path)
        _assert_same(orthanc.wado(sent, tmp_path / "back"), sent)
    orthanc.forget()
