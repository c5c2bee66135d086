"""Series of a real Orthanc become jobs, and their results come back to it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from medseg_nca.io.dicom.check.run import dciodvfy_path
from medseg_nca.io.read import read_label
from tests.io.dicom.build import AXIAL, OBLIQUE, classic, pixels, uid, write
from tests.io.writers import results
from tests.io.writers.dcmqi import segments
from tests.orthanc import Orthanc
from tests.serving.conftest import CANARY
from tests.serving.running import Server, start, volume, zipped
from tests.tracking.tiny import save_tiny

pytestmark = [pytest.mark.peer, pytest.mark.slow]
AFFINES = {"axial": AXIAL, "oblique": OBLIQUE}
RIGHT, WRONG = '{"username": "ann", "password": "secret"}', '{"username": "ann", "password": "no"}'


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """With a password, and a series of each kind."""
    folder = tmp_path_factory.mktemp("orthanc")
    archive = Orthanc(folder / "orthanc", "ann", "secret").start()
    try:
        for kind in AFFINES:
            archive.put(series(folder / kind, kind))
        yield archive
    finally:
        archive.stop()


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Iterator[Server]:
    """A server of the images in that Orthanc; ``auth.json`` beside its state may be changed."""
    folder = tmp_path_factory.mktemp("pacs")
    save_tiny(folder / "tiny", seed=10)  # it finds both of its labels in these series
    (folder / "auth.json").write_text(RIGHT)
    server = start(
        folder, "--models", f"tiny={folder / 'tiny'}", "--studies", orthanc.dicomweb,
        "--dicomweb-auth", str(folder / "auth.json"), "--dicomweb-timeout", "10",
    )  # fmt: skip
    try:
        yield server.ready()
    finally:
        assert server.stop() == 0, server.log.read_text()
        assert not list((server.state / "incoming").iterdir())
        _no_canary(server)


def series(folder: Path, name: str) -> list[Path]:
    tags = {"PatientName": CANARY, "PatientID": "CANARY-4711"}
    array = pixels((9, 26, 22), seed=len(name))
    affine = AFFINES.get(name, OBLIQUE)
    return write(folder, classic(array, affine, modality="MR", series=name, study=name, **tags))


def uid_of(name: str) -> str:
    return str(uid(name, name))


def ask(server: Server, **form: str) -> Any:
    return server.post("/v1/jobs", data=form)


def stored(server: Server, job: dict[str, Any], state: str = "stored") -> dict[str, Any]:
    """Wait until the results of a job are stored, or whatever else they are to be."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        now: dict[str, Any] = server.get(f"/v1/jobs/{job['id']}").json()
        storing = now["storing"]
        if storing["state"] == state and (state != "waiting" or storing["detail"]):
            return now
        time.sleep(0.1)
    raise AssertionError(f"still {now['storing']}")


def label_map(server: Server, job: dict[str, Any], folder: Path) -> Any:
    path = folder / "label_map.nii.gz"
    path.write_bytes(server.get(f"/v1/jobs/{job['id']}/outputs/label_map").content)
    return read_label(path)


@pytest.mark.parametrize("kind", AFFINES)
def test_a_series_comes_back_segmented(
    orthanc: Orthanc, pacs: Server, tmp_path: Path, kind: str
) -> None:
    answer = ask(pacs, series=uid_of(kind), store="true", objects="dicom-seg,rtstruct,sr")
    assert answer.status_code == 202, answer.text
    assert answer.json()["storing"]["state"] == "waiting"
    job = pacs.wait(answer.json())
    assert job["state"] == "done", job
    stored(pacs, job)
    found = {name: [file for file in orthanc.files(name) if _study(file) == str(uid(kind))]
             for name in ("SEG", "RTSTRUCT", "SR")}  # fmt: skip
    assert [len(files) for files in found.values()] == [1, 1, 1]
    program = dciodvfy_path()
    for name, (content,) in found.items():
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(content)
        if program is not None:
            said = subprocess.run([program, path], capture_output=True, text=True, timeout=60)
            assert "Error" not in said.stdout + said.stderr, name
    seg = dcmread(tmp_path / "SEG.dcm")
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == uid_of(kind)
    ours = label_map(pacs, job, tmp_path)
    theirs = segments(tmp_path / "SEG.dcm", tmp_path / "itk")
    for number, label in enumerate(job["labels"], 1):
        assert label["voxels"] > 0
        wanted = results.in_space(ours, ours.array[0] == label["value"])
        got = results.in_space(theirs[number], theirs[number].array[0] > 0)
        np.testing.assert_allclose(got, wanted, atol=5e-3)  # Dice 1.0


def test_the_same_again_is_the_same_object(orthanc: Orthanc, pacs: Server) -> None:
    """A second delivery, and a second job of the series, add nothing to the archive."""
    job = pacs.wait(ask(pacs, series=uid_of("axial"), store="true").json())
    stored(pacs, job)
    before = sorted(orthanc.files("SEG"))
    assert pacs.post(f"/v1/jobs/{job['id']}/store").status_code == 202
    stored(pacs, job)
    again = pacs.wait(ask(pacs, series=uid_of("axial"), store="true").json())
    stored(pacs, again)
    assert sorted(orthanc.files("SEG")) == before
    heads = [dcmread(BytesIO(pacs.get(f"/v1/jobs/{one['id']}/outputs/dicom_seg").content))
             for one in (job, again)]  # fmt: skip
    assert heads[0].SOPInstanceUID == heads[1].SOPInstanceUID
    assert np.array_equal(heads[0].pixel_array, heads[1].pixel_array)


def test_monai_labels_clients_name_series_too(orthanc: Orthanc, pacs: Server) -> None:
    objects = pacs.get("/datastore/", params={"output": "all"}).json()["objects"]
    assert {uid_of(kind) for kind in AFFINES} <= objects.keys()
    assert len(objects) == len(orthanc.series("MR"))  # none of SEG, SR, RTSTRUCT
    assert pacs.get("/info/").json()["datastore"]["total"] == len(objects)
    assert pacs.post("/activelearning/random").json()["id"] in objects
    where = {"image": uid_of("oblique")}
    answer = pacs.post("/infer/tiny", params={**where, "output": "dicom_seg"})
    assert answer.status_code == 200, answer.text
    seg = dcmread(BytesIO(answer.content))
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == uid_of("oblique")
    assert pacs.get("/datastore/image/info", params=where).json()["files"] == 9
    assert pacs.get("/datastore/image", params=where).content.startswith(b"PK")


def test_what_cannot_be_is_told(orthanc: Orthanc, pacs: Server, tmp_path: Path) -> None:
    axial = uid_of("axial")
    seg = orthanc.series("SEG") or pytest.skip("no SEG was stored")
    assert ask(pacs, series="1.2.3").status_code == 404
    assert ask(pacs, series=seg[0]["MainDicomTags"]["SeriesInstanceUID"]).status_code == 404
    for form in (
        {"series": "../../etc/passwd"}, {"series": "1.2.3" * 20}, {},
        {"series": axial, "store": "true", "objects": "none"}, {"series": axial, "store": "maybe"},
    ):  # fmt: skip
        answer = ask(pacs, **form)
        assert answer.status_code == 422, (form, answer.text)
    for content, form in ((volume(), {"store": "true"}), (volume(), {"series": axial})):
        assert pacs.send(content, **form).status_code == 422
    job = pacs.wait(pacs.send(volume()).json())
    assert "storing" not in job
    assert pacs.post(f"/v1/jobs/{job['id']}/store").status_code == 422


def test_a_series_that_was_deleted_is_gone(orthanc: Orthanc, pacs: Server, tmp_path: Path) -> None:
    """Though there is a copy of it here; and one that lost a slice is fetched anew."""
    orthanc.put(series(tmp_path, "short"))
    job = pacs.wait(ask(pacs, series=uid_of("short")).json())
    assert job["state"] == "done", job
    (found,) = [one for one in orthanc.series("MR")
                if one["MainDicomTags"]["SeriesInstanceUID"] == uid_of("short")]  # fmt: skip
    numbers = {
        orthanc.ask(f"/instances/{name}/content/InstanceNumber").strip(): name
        for name in found["Instances"]
    }
    orthanc.forget([f"/instances/{numbers[b'5']}"])
    job = pacs.wait(ask(pacs, series=uid_of("short")).json())
    assert job["error"]["status"] == 422, job
    orthanc.forget([f"/series/{found['ID']}"])
    assert ask(pacs, series=uid_of("short")).status_code == 404


def test_a_wrong_password_is_told_and_mended(
    orthanc: Orthanc, pacs: Server, tmp_path: Path
) -> None:
    auth = pacs.state.parent / "auth.json"
    auth.write_text(WRONG)
    try:
        answer = ask(pacs, series=uid_of("axial"))
        assert answer.status_code == 502
        assert "does not let this server in" in answer.json()["detail"]
        assert answer.json()["hint"]
        members = {path.name: path.read_bytes() for path in series(tmp_path, "late")}
        job = pacs.wait(pacs.send(zipped(members), store="true").json())
        assert job["state"] == "done", job
        assert "does not let this server in" in stored(pacs, job, "failed")["storing"]["detail"]
    finally:
        auth.write_text(RIGHT)
    pacs.post(f"/v1/jobs/{job['id']}/store")
    stored(pacs, job)
    assert "secret" not in pacs.log.read_text()
    assert str(orthanc.http) not in answer.text


def test_results_wait_for_an_archive_that_is_down(
    orthanc: Orthanc, pacs: Server, tmp_path: Path
) -> None:
    members = {path.name: path.read_bytes() for path in series(tmp_path, "while down")}
    orthanc.stop()
    try:
        answer = ask(pacs, series=uid_of("axial"))
        assert answer.status_code == 502
        assert "cannot be reached" in answer.json()["detail"]
        end = time.monotonic() + 60
        while pacs.get("/datastore/").status_code == 200:  # the list of some seconds ago
            assert time.monotonic() < end
            time.sleep(0.2)
        assert pacs.get("/datastore/").status_code == 502
        info = pacs.get("/info/")
        assert info.status_code == 200
        assert "cannot be reached" in info.json()["datastore"]["problem"]
        job = pacs.wait(pacs.send(zipped(members), store="true").json())
        assert job["state"] == "done", job
        assert "cannot be reached" in stored(pacs, job, "waiting")["storing"]["detail"]
    finally:
        orthanc.start()
    assert stored(pacs, job)["storing"]["attempts"] > 1
    segs = [file for file in orthanc.files("SEG") if _study(file) == str(uid("while down"))]
    assert len(segs) == 1


def test_a_delivery_survives_the_server(orthanc: Orthanc, pacs: Server, tmp_path: Path) -> None:
    """Killed while its results wait; the next server stores them, once."""
    members = {path.name: path.read_bytes() for path in series(tmp_path / "s", "killed")}
    options = (
        "--models", f"tiny={pacs.state.parent / 'tiny'}", "--studies", orthanc.dicomweb,
        "--dicomweb-auth", str(pacs.state.parent / "auth.json"), "--store",
    )  # fmt: skip
    orthanc.stop()
    try:
        server = start(tmp_path / "killed", *options).ready()
        job = server.wait(server.send(zipped(members)).json())
        stored(server, job, "waiting")
        plain = server.wait(server.send(volume()).json())
        assert plain["state"] == "done"  # nothing of it can be stored, and nobody asked for it
        assert "storing" not in plain
        server.kill()
    finally:
        orthanc.start()
    server = start(tmp_path / "killed", *options)
    stored(server, job)
    assert server.stop() == 0
    segs = [file for file in orthanc.files("SEG") if _study(file) == str(uid("killed"))]
    assert len(segs) == 1


def _study(content: bytes) -> str:
    return str(dcmread(BytesIO(content), stop_before_pixels=True).StudyInstanceUID)


def _no_canary(server: Server) -> None:
    """The patient stands in DICOM files alone: not in the log, database, audit log or a name."""
    assert "anary" not in server.log.read_text().replace("CANARY", "Canary")
    for path in server.state.rglob("*"):
        assert "anary" not in path.name.lower()
        if path.is_file() and path.suffix != ".dcm":
            assert b"Canary" not in path.read_bytes(), path.name
    names = json.dumps([path.name for path in server.state.rglob("*")])
    assert uid_of("axial") not in names
    assert uid_of("axial") not in (server.state / "audit.log").read_text()
