"""A real Orthanc with its DICOMweb plug-in, on ports of its own, in a temporary folder."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.programs import dcmtk_program

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass
class Orthanc:
    """An archive that keeps what it gets in a folder; it can be stopped and started again.

    Attributes:
        folder: of its files.
        user: who may use it; everybody if "".
        password: of the user.
        http: port of HTTP.
        dicom: port of DICOM.
        modalities: port of each DICOM application that it may send to, by AE title.
        more: settings of Orthanc beside ours, for example ``{"DicomCheckCalledAet": True}``.
    """

    folder: Path
    user: str = ""
    password: str = ""
    http: int = field(default_factory=lambda: _free_port())
    dicom: int = field(default_factory=lambda: _free_port())
    more: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    modalities: dict[str, int] = field(default_factory=dict)

    @property
    def dicomweb(self) -> str:
        """The address of DICOMweb."""
        return self.url("/dicom-web")

    def start(self) -> Orthanc:
        """Start it and wait until it answers; skips where it is not installed."""
        if None in (shutil.which("Orthanc"), dcmtk_program("storescu")) or not PLUGIN.exists():
            pytest.skip("Orthanc is not installed (Debian: orthanc orthanc-dicomweb dcmtk)")
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "orthanc.json"
        settings.write_text(json.dumps(self._settings()))
        log = self.folder / "log"
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [str(shutil.which("Orthanc")), str(settings)],
                stdout=stream, stderr=subprocess.STDOUT, cwd=self.folder,
            )  # fmt: skip
        for _ in range(480):
            if self.process.poll() is not None:
                pytest.fail(f"Orthanc stopped: {log.read_text(errors='replace')[-2000:]}")
            try:
                self.ask("/system")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.25)
            else:
                return self
        pytest.fail("Orthanc does not answer")

    def stop(self) -> None:
        """End it; what it has stays in its folder."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def c_store(self, path: Path) -> None:
        """Send by storescu; -R proposes only what is sent, which SEG and SR need."""
        command = [str(dcmtk_program("storescu")), "-R", "-aet", "TEST", "-aec", "ORTHANC"]
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

    def put(self, paths: Iterable[Path]) -> None:
        """Store files by Orthanc's own interface."""
        for path in paths:
            self.ask("/instances", path.read_bytes())

    def wado(self, dataset: pydicom.Dataset, folder: Path) -> pydicom.Dataset:
        """Fetch an instance by WADO-RS."""
        url = (
            f"/dicom-web/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
            f"/instances/{dataset.SOPInstanceUID}"
        )
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        request = urllib.request.Request(self.url(url), headers={"Accept": accept, **self._login()})
        with urllib.request.urlopen(request, timeout=60) as reply:
            kind, body = Message(), reply.read()
            kind["Content-Type"] = reply.headers["Content-Type"]
        boundary = b"--" + str(kind.get_param("boundary")).encode()
        part = body.split(boundary)[1]
        folder.mkdir(exist_ok=True)
        file = folder / "back.dcm"
        file.write_bytes(part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n"))
        return pydicom.dcmread(file)

    def series(self, modality: str) -> list[dict[str, Any]]:
        """All series of a modality, with the ids of their instances, as Orthanc lists them."""
        found = [
            json.loads(self.ask(f"/series/{name}")) for name in json.loads(self.ask("/series"))
        ]
        return [one for one in found if one["MainDicomTags"]["Modality"] == modality]

    def files(self, modality: str) -> list[bytes]:
        """The instances of a modality, as DICOM files."""
        names = [name for one in self.series(modality) for name in one["Instances"]]
        return [self.ask(f"/instances/{name}/file") for name in sorted(names)]

    def forget(self, what: Sequence[str] = ()) -> None:
        """Remove everything, or some resources, such as ``/series/ID``."""
        for place in what or [f"/studies/{study}" for study in json.loads(self.ask("/studies"))]:
            request = urllib.request.Request(
                self.url(place), headers=self._login(), method="DELETE"
            )
            urllib.request.urlopen(request, timeout=60).close()

    def ask(self, path: str, body: bytes | None = None, headers: dict | None = None) -> bytes:
        """GET, or POST where there is a body."""
        request = urllib.request.Request(self.url(path), body, {**self._login(), **(headers or {})})
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.read()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http}{path}"

    def _login(self) -> dict[str, str]:
        if not self.user:
            return {}
        text = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"Authorization": f"Basic {text}"}

    def _settings(self) -> dict[str, Any]:
        return {
            "Name": "test",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "index"),
            "Plugins": [str(PLUGIN)],
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": bool(self.user),
            "RegisteredUsers": {self.user: self.password} if self.user else {},
            "DicomAet": "ORTHANC",
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {
                aet: [aet, "127.0.0.1", port] for aet, port in self.modalities.items()
            },
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **self.more,
        }


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
