"""A real server in a process of its own, and images for it."""

from __future__ import annotations

import io
import os
import signal
import ssl
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import numpy as np
from PIL import Image

# Seconds; a machine that is busy with other work needs minutes to import torch.
PATIENCE = 300.0
# For whoever has to end what a failed test left.
STARTED: list[subprocess.Popen[str]] = []
# Made once: a client that makes its own reads all certificates of the system each time.
_TLS = ssl.create_default_context()


@dataclass
class Server:
    """A server that was started by the command."""

    process: subprocess.Popen[str]
    url: str
    state: Path
    log: Path
    token: str = ""

    @property
    def client(self) -> httpx.Client:
        """A new client; it sends the token if there is one."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=PATIENCE, trust_env=False, verify=_TLS
        )

    def get(self, path: str, **how: Any) -> httpx.Response:
        with self.client as client:
            return client.get(path, **how)

    def post(self, path: str, **how: Any) -> httpx.Response:
        with self.client as client:
            return client.post(path, **how)

    def put(self, path: str, **how: Any) -> httpx.Response:
        with self.client as client:
            return client.put(path, **how)

    def delete(self, path: str, **how: Any) -> httpx.Response:
        with self.client as client:
            return client.delete(path, **how)

    def send(self, content: bytes, name: str = "image", **form: str) -> httpx.Response:
        """POST an image as a job."""
        return self.post("/v1/jobs", files={"file": (name, content)}, data=form)

    def wait(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Wait until a job has ended."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            now: dict[str, Any] = self.get(f"/v1/jobs/{job['id']}").json()
            if now["state"] in ("done", "failed", "cancelled"):
                return now
            time.sleep(0.05)
        raise AssertionError(f"job {job['id']} did not end")

    def ready(self) -> Server:
        """Wait until the models are warm."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            if self.get("/health/ready").status_code == 200:
                return self
            time.sleep(0.1)
        raise AssertionError("not ready: " + self.log.read_text())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as an init system does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def start(folder: Path, *options: str, env: Mapping[str, str] | None = None) -> Server:
    """Start a server on a free port; its state lies in ``folder/state``."""
    folder.mkdir(parents=True, exist_ok=True)
    state, log, said = folder / "state", folder / "log", folder / "stdout"
    command = [sys.executable, "-m", "medseg_nca", "serve", "--port", "0", "--device", "cpu"]
    with log.open("a") as file, said.open("w") as out:
        process = subprocess.Popen(
            [*command, "--state", str(state), *options], cwd=folder, stdout=out,
            stderr=file, text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **(env or {})},
        )  # fmt: skip
    STARTED.append(process)
    while not (line := said.read_text()).endswith("\n") and process.poll() is None:
        time.sleep(0.05)
    line = said.read_text().partition("\n")[0]
    assert line.startswith("Listening on "), log.read_text()
    return Server(process, line.split()[-1], state, log)


def picture(size: int = 64, seed: int = 0) -> bytes:
    """A PNG with bright discs on a dark ground."""
    random = np.random.default_rng(seed)
    x, y = np.mgrid[:size, :size]
    array = random.normal(20, 3, (size, size))
    for cx, cy in random.integers(10, size - 10, (4, 2)):
        array[(x - cx) ** 2 + (y - cy) ** 2 < 36] += 120
    stream = io.BytesIO()
    grey = array.clip(0, 255).astype(np.uint8)
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(stream, "PNG")
    return stream.getvalue()


def volume(shape: tuple[int, ...] = (14, 12, 10), seed: int = 0, **change: Any) -> bytes:
    """A .nii.gz of random values on an oblique grid."""
    array = np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)
    if "nan" in change:
        array.flat[: change["nan"]] = np.nan
    affine = np.array([[1.4, 0.2, 0, -10], [-0.2, 1.4, 0, 5], [0, 0, 2, 7], [0, 0, 0, 1.0]])
    return (
        nib.Nifti1Image(array, affine).to_bytes()
        if change.get("plain")
        else _packed(nib.Nifti1Image(array, affine).to_bytes())
    )


def _packed(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content, 1, mtime=0)


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return stream.getvalue()
