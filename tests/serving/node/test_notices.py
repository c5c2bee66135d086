"""A series that got no segmentation has an object in its study that says why, once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from medseg_nca.config.training import TrackingSettings
from medseg_nca.io.dicom.check.run import dciodvfy_path
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.catalogue import Catalogue
from medseg_nca.serving.jobs.deliverer import dicom_files
from medseg_nca.serving.jobs.deliveries import Deliveries
from medseg_nca.serving.jobs.records import Failure, JobOptions, new_id
from medseg_nca.serving.jobs.store import JobStore
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.node.notices import FailureNotices
from tests.io.dicom.build import OBLIQUE, PATIENT, classic, pixels, uid, write
from tests.orthanc import Orthanc

WHY = Failure(422, "The series lacks 2 slices.", "Send all of it.")
JOB = "a" * 22


def opened(state: Path) -> JobStore:
    store, audit = JobStore(state), AuditLog(state)
    catalogue = Catalogue((), state / "models", TrackingSettings(), audit, Metrics())
    store.notices = FailureNotices(catalogue, audit)
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    found = opened(tmp_path / "state")
    yield found
    found.close()


def begin(store: JobStore, kind: str = "sr", job_id: str = JOB) -> list[Path]:
    """A job at work; the files of its input."""
    received = store.incoming / new_id()
    array = pixels((3, 26, 22), seed=1)
    write(received, classic(array, OBLIQUE, modality="MR", series="s", study="s"))
    options = JobOptions(kind="dicom", destinations=("pacs",), notice=kind)  # type: ignore[arg-type]
    assert store.add(job_id, received, options, owner="node:SCU", model="hippo") is not None
    assert store.claim() is not None
    return sorted((store.folder(job_id) / "input").iterdir())


def made(store: JobStore, job_id: str = JOB) -> list[Path]:
    job = store.get(job_id)
    assert job is not None
    assert job.state == "failed"
    return dicom_files(store, job)


def texts(dataset: Dataset) -> list[str]:
    return [item.TextValue for item in dataset.ContentSequence if item.ValueType == "TEXT"]


@pytest.mark.parametrize(("kind", "modality"), [("sr", "SR"), ("sc", "OT")])
def test_a_failed_job_leaves_one_in_the_study(store: JobStore, kind: str, modality: str) -> None:
    begin(store, kind)
    store.fail(JOB, WHY)
    (file,) = made(store)
    assert [path.name for path in store.folder(JOB).iterdir()] == ["notice"]  # and no image
    notice = dcmread(file)
    assert notice.Modality == modality
    assert notice.StudyInstanceUID == uid("s")
    assert notice.SeriesInstanceUID != uid("s", "s")
    assert notice.PatientID == PATIENT["PatientID"]
    assert notice.SeriesDescription == "No segmentation: The series lacks 2 slices."
    if kind == "sr":
        assert {WHY.detail, WHY.hint, "hippo"} <= set(texts(notice))
    else:
        assert notice.pixel_array.max() > 200
    assert Deliveries(store).next("pacs").job == JOB  # type: ignore[union-attr]
    program = dciodvfy_path()
    if program is not None:
        said = subprocess.run([program, file], capture_output=True, text=True, timeout=60)
        assert "Error" not in said.stdout + said.stderr


def test_made_again_it_is_the_same_object_unless_it_says_something_else(tmp_path: Path) -> None:
    found = []
    for number, why in enumerate((WHY, WHY, Failure(504, "It took too long."))):
        store = opened(tmp_path / str(number))
        begin(store)
        store.fail(JOB, why)
        (file,) = made(store)
        found.append(str(dcmread(file).SOPInstanceUID))
        store.close()
    assert found[0] == found[1] != found[2]


def test_a_kill_before_the_end_of_the_job_loses_none_and_sends_none_twice(tmp_path: Path) -> None:
    """The notice was whole, and the database did not know yet."""
    store = opened(tmp_path)
    begin(store)
    folder, job = store.folder(JOB), store.get(JOB)
    assert job is not None
    assert store.notices is not None
    store.notices.make(job, WHY, folder / "input", folder / "notice")
    store.close()
    store = opened(tmp_path)
    (again,) = store.recover()
    assert (again.state, Deliveries(store).next("pacs")) == ("queued", None)
    assert store.claim() is not None
    store.fail(JOB, WHY)
    assert len(made(store)) == 1
    assert len(Deliveries(store).of(JOB)) == 0
    assert Deliveries(store).next("pacs") is not None
    assert len(Deliveries(store).of(JOB)) == 1
    store.close()


def test_nobody_is_told_of_a_cancelled_job(store: JobStore) -> None:
    begin(store)
    store.fail(JOB, Failure(409, "The job was cancelled."), "cancelled")
    assert Deliveries(store).next("pacs") is None
    assert not list(store.folder(JOB).iterdir())


def test_cut_pixels_leave_a_header_and_junk_does_not(store: JobStore) -> None:
    for path in begin(store):
        path.write_bytes(path.read_bytes()[:-500])
    store.fail(JOB, WHY)
    assert dcmread(made(store)[0]).PatientName == PATIENT["PatientName"]
    other = "b" * 22
    for path in begin(store, job_id=other):
        path.write_bytes(b"junk" * 100)
    store.fail(other, WHY)
    assert made(store, other) == []
    job = store.get(other)
    assert job is not None
    assert job.result == {"notice": {}}
    assert '"notice", "outcome": "not made"' in (store.state / "audit.log").read_text()


@pytest.mark.peer
@pytest.mark.slow
def test_orthanc_shows_it_in_the_study(store: JobStore, tmp_path: Path) -> None:
    archive = Orthanc(tmp_path / "orthanc").start()
    try:
        archive.put(begin(store))
        store.fail(JOB, WHY)
        (file,) = made(store)
        archive.stow(file)
        archive.c_store(file)  # once more: it is the same object
        (series,) = archive.series("SR")
        assert len(series["Instances"]) == 1
        assert series["MainDicomTags"]["SeriesDescription"].startswith("No segmentation")
        assert len(archive.series("MR")) == 1
        assert series["ParentStudy"] == archive.series("MR")[0]["ParentStudy"]
    finally:
        archive.stop()
