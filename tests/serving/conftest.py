"""One server for all tests that need no other: a 2D model of the zoo, and a tiny one of 3D."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.io.dicom.build import classic, pixels, write
from tests.serving.running import STARTED, Server, picture, start, volume
from tests.tracking.tiny import save_tiny

CANARY = "Canary^Patient"


@pytest.fixture(scope="session", autouse=True)
def _no_server_stays() -> Iterator[None]:
    """A test that fails leaves its server; it ends with the tests."""
    yield
    for process in STARTED:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume, a picture and a DICOM series, whose patient no answer and no file may name."""
    folder = tmp_path_factory.mktemp("studies")
    (folder / "head.nii.gz").write_bytes(volume(seed=1))
    (folder / "nuclei.png").write_bytes(picture(seed=1))
    tags = {"PatientName": CANARY, "PatientID": "CANARY-4711"}
    write(folder / "series", classic(pixels((8, 12, 14)), modality="MR", **tags))
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, studies: Path) -> Iterator[Server]:
    """Without users; limits that a test can reach."""
    folder = tmp_path_factory.mktemp("server")
    save_tiny(folder / "tiny")
    options = ("--max-body", "2", "--max-voxels", "0.3", "--queue", "6")
    models = f"zoo:nuclei,tiny={folder / 'tiny'}"
    found = start(folder, "--models", models, "--studies", str(studies), *options)
    try:
        yield found.ready()
    finally:
        assert found.stop() == 0, found.log.read_text()
        assert not list((found.state / "incoming").iterdir())
        assert "Canary" not in found.log.read_text()


@pytest.fixture(scope="session")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For what nobody wants: its images under an id are bad, and its log must not say why."""
    folder = tmp_path_factory.mktemp("rough")
    save_tiny(folder / "tiny", seed=10)
    options = ("--max-body", "2", "--max-voxels", "0.3", "--queue", "6")
    found = start(folder, "--models", f"zoo:nuclei,tiny={folder / 'tiny'}", *options)
    try:
        yield found.ready()
    finally:
        assert found.stop() == 0, found.log.read_text()
        assert not list((found.state / "incoming").iterdir())
        said = found.log.read_text()
        assert "Fault in" not in said, said
        assert "Traceback" not in said, said
