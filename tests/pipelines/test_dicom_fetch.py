"""Series from an archive into a folder: whole, once, and under names that say nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medseg_nca.errors import ConfigError, DataError, Interrupted, OutputError
from medseg_nca.io.dicomweb.client import DicomWebClient
from medseg_nca.io.dicomweb.errors import DicomWebError
from medseg_nca.io.dicomweb.server import DicomWebServer
from medseg_nca.job import Job, Progress
from medseg_nca.pipelines import dicom_fetch
from medseg_nca.pipelines.dicom_fetch import FetchReport, FetchRequest
from tests.io.dicom.build import PATIENT, classic, pixels, uid, write
from tests.io.dicomweb.archive import WebArchive
from tests.io.dicomweb.peer import peer, reply

MR = "Modality=MR"


def series(folder: Path, name: str, count: int, **tags: Any) -> list[Path]:
    how = {"modality": "MR", **tags}
    return write(folder / name, classic(pixels((count, 8, 6)), series=name, **how))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[WebArchive]:
    """Two MR series and a CT."""
    sent = tmp_path / "sent"
    files = [
        *series(sent, "one", 3, SeriesDescription="T1 Hippocampus", SeriesNumber=1),
        *series(sent, "two", 4, SeriesDescription="../../etc/T2", SeriesNumber=2),
        *series(sent, "ct", 2, modality="CT", SeriesNumber=3),
    ]
    with peer() as server:
        yield WebArchive(server, files)


@pytest.fixture
def client(archive: WebArchive) -> Iterator[DicomWebClient]:
    found = DicomWebClient(DicomWebServer(archive.server.url, timeout=20.0))
    yield found
    found.close()


def fetch(
    client: DicomWebClient, out: Path, select: str | None = MR, job: Job | None = None, **how: Any
) -> FetchReport:
    return dicom_fetch.run(FetchRequest(client, select, **how), out, job)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_names_come_from_hashes_and_numbers_alone(
    client: DicomWebClient, archive: WebArchive, tmp_path: Path
) -> None:
    told: list[Progress] = []
    report = fetch(client, tmp_path / "out", job=Job(told.append))
    assert (len(report.fetched), report.files, report.failed) == (2, 7, [])
    found = names(tmp_path / "out")
    shape = re.compile(r"[0-9a-f]{16}/[0-9a-f]{16}/00000[1-4]-[0-9a-f]{16}\.dcm")
    assert sum(shape.fullmatch(name) is not None for name in found) == 7
    assert [name for name in found if shape.fullmatch(name) is None] == ["fetch.json"]
    got = {path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")}
    sent = (tmp_path / "sent").rglob("*.dcm")
    assert got == {path.read_bytes() for path in sent if path.parent.name != "ct"}
    text = (tmp_path / "out" / "fetch.json").read_text()
    assert not any(secret in text for secret in (*PATIENT.values(), "Hippocampus"))
    assert re.search(r"\bT2\b", text) is None  # not the T of a time such as T23:45
    first = json.loads(text)["series"][0]
    assert (first["modality"], first["archive"]) == ("MR", archive.server.url)
    ends = {one.phase: (one.done, one.total) for one in told}
    assert ends == {"series": (2, 2), "instances": (7, 7)}


def test_a_second_run_fetches_what_is_missing(
    client: DicomWebClient, archive: WebArchive, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fetch(client, out)
    before = archive.server.fetches()
    again = fetch(client, out)
    assert (again.there, again.fetched, archive.server.fetches()) == (2, [], before)
    (out / "fetch.json").write_text(
        json.dumps({**json.loads((out / "fetch.json").read_text()), "series": []})
    )  # as if it had been killed before it was written
    assert fetch(client, out).there == 2
    next(out.rglob("000002-*.dcm")).unlink()
    assert len(fetch(client, out).fetched) == 1
    archive.add(series(tmp_path / "more", "one", 5)[4])
    report = fetch(client, out)
    assert (report.there, [one.files for one in report.fetched]) == (1, [4])
    assert len(fetch(client, out, "Modality=CT").fetched) == 1
    tree = json.loads((out / "fetch.json").read_text())
    assert sorted(one["files"] for one in tree["series"]) == [2, 4, 4]


def test_a_series_that_fails_is_named_and_stops_no_other(
    client: DicomWebClient, archive: WebArchive, tmp_path: Path
) -> None:
    archive.held_back = {str(uid("a", "one")): 1}
    archive.broken = {str(uid("a", "ct"))}
    report = fetch(client, tmp_path / "out", "PatientID=FAKEID-0815-XQ")
    assert [one.kind for one in report.failed] == ["incomplete", "faulty"]
    assert "2 instances of a series that has 3" in report.failed[0].message
    assert [one.files for one in report.fetched] == [4]
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 4
    archive.held_back.clear()
    archive.broken.clear()
    assert len(fetch(client, tmp_path / "out", "PatientID=FAKEID-0815-XQ").fetched) == 2


@pytest.mark.parametrize("select", [None, "", "Slices>2", "EchoTime<10,Rows=8"])
def test_a_whole_archive_is_not_fetched_by_accident(
    client: DicomWebClient, archive: WebArchive, tmp_path: Path, select: str | None
) -> None:
    with pytest.raises(ConfigError, match="all series of the archive") as caught:
        fetch(client, tmp_path / "out", select)
    assert "--all" in str(caught.value)
    assert not archive.server.asked
    assert not (tmp_path / "out").exists()


def test_too_many_series_are_told_before_anything_is_fetched(
    client: DicomWebClient, archive: WebArchive, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="3 series are selected, and --limit allows 2") as caught:
        fetch(client, tmp_path / "out", None, everything=True, most_series=2)
    assert "--limit 3" in str(caught.value)
    assert archive.server.fetches() == 0
    report = fetch(client, tmp_path / "out", None, everything=True, most_series=3)
    assert len(report.fetched) == 3
    with pytest.raises(DataError, match="no series that is selected"):
        fetch(client, tmp_path / "out", "Modality=PT")


def test_what_the_archive_does_not_tell_is_decided_by_the_headers(
    client: DicomWebClient, archive: WebArchive, tmp_path: Path
) -> None:
    archive.untold = {"SeriesDescription"}
    select = f"{MR},SeriesDescription~hippo,Slices>2"
    found = dicom_fetch.find(FetchRequest(client, select))
    assert (len(found.series), found.instances) == (2, 7)
    words = [condition.keyword for condition in found.undecided.conditions]
    assert words == ["SeriesDescription", "Slices"]
    for _ in range(2):  # what was given up is not fetched again
        report = fetch(client, tmp_path / "out", select)
        assert report.not_selected == 1
        assert [path.name[:6] for path in sorted((tmp_path / "out").rglob("*.dcm"))] == [
            "000001", "000002", "000003",
        ]  # fmt: skip
        assert archive.server.fetches() == 2
    archive.untold.clear()
    found = dicom_fetch.find(FetchRequest(client, f"{MR},SeriesDescription~hippo"))
    assert (len(found.series), found.undecided.conditions) == (1, ())


def test_cancelling_keeps_whole_series_alone(client: DicomWebClient, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def listen(progress: Progress) -> None:
        if (progress.phase, progress.done) == ("series", 1):
            job.cancel("Enough.")

    job = Job(listen)
    with pytest.raises(Interrupted):
        fetch(client, out, job=job)
    assert len(list(out.rglob("*.dcm"))) == 3
    assert len(json.loads((out / "fetch.json").read_text())["series"]) == 1
    report = fetch(client, out)
    assert (report.there, report.files) == (1, 4)


def test_no_more_bytes_are_taken_than_allowed(client: DicomWebClient, tmp_path: Path) -> None:
    size = sum(path.stat().st_size for path in (tmp_path / "sent" / "one").iterdir())
    report = fetch(client, tmp_path / "out", most_bytes=size + 1500)
    assert [one.kind for one in report.failed] == ["too-large"]
    assert report.files == 3


def test_troubles_of_the_whole_archive_end_the_run(
    client: DicomWebClient, archive: WebArchive, tmp_path: Path
) -> None:
    archive.server.answer = lambda handler: reply(handler, 401)
    with pytest.raises(DicomWebError, match="refuses the credentials"):
        fetch(client, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_things_is_refused(client: DicomWebClient, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds something else"):
        fetch(client, tmp_path / "sent")
    (tmp_path / "sent" / "fetch.json").write_text('{"format": 1, "series": [{}]}')
    with pytest.raises(OutputError, match="no manifest"):
        fetch(client, tmp_path / "sent")


def test_two_objects_with_one_uid_are_refused(
    client: DicomWebClient, archive: WebArchive, tmp_path: Path
) -> None:
    archive.untold = {"NumberOfSeriesRelatedInstances"}
    archive.add(next((tmp_path / "sent" / "two").iterdir()))  # a copy does no harm
    assert fetch(client, tmp_path / "out", "SeriesNumber=2").files == 4
    archive.add(series(tmp_path / "other", "two", 1, RescaleSlope=2)[0])
    report = fetch(client, tmp_path / "again", "SeriesNumber=2")
    assert [failure.kind for failure in report.failed] == ["wrong"]
