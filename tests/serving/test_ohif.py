"""A radiologist's way: log in, open a study of the PACS in the real OHIF viewer, press Run."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medseg_nca.serving.security.users import UserFile
from tests.io.dicom.build import OBLIQUE, affine, classic, pixels, write
from tests.orthanc import Orthanc
from tests.serving.browser import PATIENCE, browser, chromium
from tests.serving.conftest import CANARY
from tests.serving.running import Server, start, zipped
from tests.serving.test_login import PASSWORD, log_in
from tests.serving.viewer import LOADED, PageVolume, ohif_build, read_volume, wait_until
from tests.tracking.tiny import save_tiny

pytestmark = [pytest.mark.peer, pytest.mark.slow]
SHAPE = (10, 20, 24)
# The first plane is the uppermost one in the axial series: a viewer has to sort.
GRIDS = {"axial": affine(spacing=(1.5, 1.5, -2.0)), "oblique": OBLIQUE}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chromium()
    return ohif_build(tmp_path_factory.mktemp("ohif"))


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    folder = tmp_path_factory.mktemp("series")
    return {
        name: write(folder / name, classic(
            pixels(SHAPE, seed=number), grid, modality="MR", series=name, study=name,
            PatientName=CANARY,
        ))
        for number, (name, grid) in enumerate(GRIDS.items())
    }  # fmt: skip


@pytest.fixture(scope="module")
def orthanc(
    tmp_path_factory: pytest.TempPathFactory, series: dict[str, list[Path]]
) -> Iterator[Orthanc]:
    found = Orthanc(tmp_path_factory.mktemp("orthanc"), "medseg", "pacs-secret").start()
    try:
        for paths in series.values():
            found.put(paths)
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def served(
    build: Path, orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    save_tiny(folder / "tiny", seed=8)
    users = UserFile(folder / "users.json")
    users.add("ann", PASSWORD, "user")
    auth = folder / "auth.json"
    auth.write_text(json.dumps({"username": orthanc.user, "password": orthanc.password}))
    found = start(
        folder, "--models", str(folder / "tiny"), "--users", str(users.path),
        "--studies", orthanc.dicomweb, "--dicomweb-auth", str(auth), "--ohif", str(build),
    )  # fmt: skip
    try:
        yield found.ready()
    finally:
        assert found.stop() == 0
        written = found.log.read_text() + (found.state / "audit.log").read_text()
        assert not [word for word in ("Canary", "pacs-secret", "1.2.826") if word in written]


@pytest.fixture(scope="module")
def ann(served: Server) -> Server:
    return log_in(served, "ann")


@pytest.mark.parametrize("name", GRIDS)
def test_run_in_the_viewer(
    served: Server, ann: Server, series: dict[str, list[Path]], name: str, tmp_path: Path
) -> None:
    """The label map in the page is the one of a job, at the same places in the patient."""
    first = pydicom.dcmread(series[name][0])
    with browser() as chrome:
        context = chrome.new_context(viewport={"width": 1400, "height": 900})
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        hosts: set[str] = set()
        page.on("response", lambda answer: hosts.add(urlsplit(answer.url).netloc))
        page.goto(f"{served.url}/ohif/monai-label?StudyInstanceUIDs={first.StudyInstanceUID}")
        page.fill("#name", "ann")  # it was sent to our page, and is sent back
        page.fill("#password", PASSWORD)
        page.click("#sign-in-form button[type=submit]")
        page.wait_for_url("**/ohif/**")
        wait_until(lambda: page.evaluate(LOADED))
        image, labels = _run(page)
        page.screenshot(path=tmp_path / f"{name}.png")
        assert hosts - {""} == {urlsplit(served.url).netloc}
    _compare(ann, series[name], GRIDS[name], image, labels)


def _run(page: Any) -> tuple[PageVolume, PageVolume]:
    """Connect, choose the model, press Run; the image and the label map then."""
    page.click(".settingsTable .actionButton")
    page.locator("select.selectBox:visible").first.select_option("tiny")
    page.click("button[title='Run Segmentation']")
    wait_until(lambda: read_volume(page, labels=True).array.any())
    return read_volume(page, labels=False), read_volume(page, labels=True)


def _compare(
    ann: Server, files: list[Path], grid: np.ndarray, image: PageVolume, labels: PageVolume
) -> None:
    stored = np.stack([pydicom.dcmread(path).pixel_array for path in files]).transpose(2, 1, 0)
    assert np.array_equal(image.array, image.values_of(stored, grid))
    job = ann.wait(ann.send(zipped({path.name: path.read_bytes() for path in files})).json())
    assert job["state"] == "done", job
    content = ann.get(f"/v1/jobs/{job['id']}/outputs/label_map").content
    made = nib.Nifti1Image.from_bytes(gzip.decompress(content))
    array, lps = np.asanyarray(made.dataobj), np.diag([-1.0, -1.0, 1.0, 1.0]) @ made.affine
    assert np.array_equal(labels.array, labels.values_of(array, lps))
    assert set(np.unique(labels.array)) == {0, 1, 2}
    for axis in range(3):  # no error of direction could hide
        assert not np.array_equal(labels.array, np.flip(labels.array, axis))
    for value in (1, 2):
        inside = PageVolume(array, lps).values_of(stored, grid)[array == value]
        assert image.array[labels.array == value].mean() == pytest.approx(inside.mean())


def test_orthanc_behind_the_proxy(
    ann: Server, orthanc: Orthanc, series: dict[str, list[Path]], tmp_path: Path
) -> None:
    """Store, search and retrieve, all by addresses of ours; and what is said when it is down."""
    new = classic(pixels((1, 8, 6)), series="new", study="new")
    path = write(tmp_path, new)[0]
    kind = 'multipart/related; type="application/dicom"; boundary=part'
    body = b"--part\r\nContent-Type: application/dicom\r\n\r\n" + path.read_bytes()
    answer = ann.post(
        "/proxy/dicom/stow/studies", content=body + b"\r\n--part--\r\n",
        headers={"Content-Type": kind, "Accept": "application/dicom+json"},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    json_kind = {"Accept": "application/dicom+json"}
    study = f"/proxy/dicom/wado/studies/{new[0].StudyInstanceUID}"
    found = ann.get("/proxy/dicom/qido/studies", headers=json_kind).json()
    addresses = [one["00081190"]["Value"][0] for one in found]
    assert study in addresses
    assert len(addresses) == len(GRIDS) + 1
    told = ann.get(f"{study}/metadata", headers=json_kind)
    assert str(orthanc.http) not in told.text
    pixel_data = told.json()[0]["7FE00010"]["BulkDataURI"]
    assert pixel_data.startswith(study)
    assert new[0].PixelData in ann.get(pixel_data).content
    frame = ann.get(
        f"{study}/series/{new[0].SeriesInstanceUID}/instances/{new[0].SOPInstanceUID}/frames/1",
        headers={"Accept": 'multipart/related; type="application/octet-stream"'},
    )
    assert new[0].PixelData in frame.content
    lines = [json.loads(line) for line in (ann.state / "audit.log").read_text().splitlines()]
    outcomes = {line["outcome"] for line in lines if line["action"] == "dicomweb"}
    assert outcomes == {"viewed", "stored"}
    orthanc.stop()
    try:
        down = ann.get("/proxy/dicom/qido/studies")
        assert (down.status_code, str(orthanc.http) in down.text) == (502, False)
    finally:
        orthanc.start()
