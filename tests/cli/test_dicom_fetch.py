"""``medseg-nca dicom fetch`` from a real Orthanc, and what becomes of the folder."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from tests.cli.runner import complains, run
from tests.io.dicom.build import PATIENT, classic, pixels, write
from tests.orthanc import Orthanc
from tests.tracking.tiny import save_tiny

SELECT = f"PatientID={PATIENT['PatientID']},Modality=MR,SeriesDescription~hippo,Slices>3"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """With two MR series, one of them a scout, and a CT."""
    folder = tmp_path_factory.mktemp("orthanc")
    server = Orthanc(folder / "archive", modalities={"MEDSEG_NCA": _free_port()}).start()
    try:
        for name, count, modality in (("Hippo T1", 12, "MR"), ("hippo scout", 2, "MR"),
                                      ("Hippo", 3, "CT")):  # fmt: skip
            shape = pixels((count, 16, 14))
            tags = {"SeriesDescription": name, "SeriesNumber": count}
            server.put(write(folder / name, classic(shape, modality=modality, series=name, **tags)))
        yield server
    finally:
        server.stop()


def fetch(*options: object) -> Result:
    return run("dicom", "fetch", *options)


@pytest.mark.peer
@pytest.mark.parametrize("way", ["dicomweb", "get", "move"])
def test_a_series_goes_from_an_archive_into_our_commands(
    orthanc: Orthanc, tmp_path: Path, way: str
) -> None:
    source: list[object] = ["--from", orthanc.dicomweb]
    if way != "dicomweb":
        source = ["--from", f"ORTHANC@127.0.0.1:{orthanc.dicom}", "--method", way]
    if way == "move":
        source += ["--move-port", orthanc.modalities["MEDSEG_NCA"]]
    options = [*source, "--select", SELECT]
    listed = json.loads(fetch(*options, "--dry-run", "--json").stdout)
    assert [one["instances"] for one in listed["series"]] == [2, 12]
    assert listed["undecided"] == ["Slices"]
    out = tmp_path / "out"
    result = fetch(*options, "--out", out)
    assert result.exit_code == 0, result.output
    assert "1 series fetched (12 files" in result.stdout
    assert "1 given up by their headers" in result.stdout
    assert f"Next: medseg-nca dicom import {out} --out {tmp_path / 'out_dataset'}" in result.stderr
    again = json.loads(fetch(*options, "--out", out, "--json").stdout)
    assert (again["there"], again["fetched"], again["failed"]) == (1, [], [])
    assert run("dicom", "import", out, "--out", tmp_path / "out_dataset").exit_code == 0
    assert len(list((tmp_path / "out_dataset" / "imagesTr").iterdir())) == 1
    if way == "get":
        save_tiny(tmp_path / "model")
        done = run("predict", "--model", tmp_path / "model", "--out", tmp_path / "seg", out)
        assert done.exit_code == 0, done.output
        assert len(list((tmp_path / "seg").glob("*.seg.dcm"))) == 1


@pytest.mark.peer
def test_an_archive_that_does_not_know_where_to_send(orthanc: Orthanc, tmp_path: Path) -> None:
    result = fetch(
        "--from", f"ORTHANC@127.0.0.1:{orthanc.dicom}", "--calling", "STRANGER", "--method", "move",
        "--move-port", 0, "--select", "Modality=CT", "--out", tmp_path / "out",
    )  # fmt: skip
    complains(result, "1 of 1 series not fetched", "Register the AE title STRANGER")


@pytest.mark.peer
def test_the_list_of_what_is_selected(orthanc: Orthanc, tmp_path: Path) -> None:
    result = fetch("--from", orthanc.dicomweb, "--all", "--dry-run", "--limit", 2)
    assert result.exit_code == 0
    for text in (PATIENT["PatientID"], "hippo scout", "3 series with 17 instances are selected",
                 "--limit 3"):  # fmt: skip
        assert text in result.stdout
    result = fetch("--from", orthanc.dicomweb, "--all", "--limit", 2, "--out", tmp_path / "out")
    complains(result, "3 series are selected, and --limit allows 2")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--from", "http://127.0.0.1:1/x", "--select", "Modality=MR"), "--out is needed"),
        (("--from", "http://127.0.0.1:1/x", "--dry-run"), "all series of the archive"),
        (("--from", "http://127.0.0.1:1/x", "--dry-run", "--move-port", 1), "--move-port does not"),
        (("--from", "http://127.0.0.1:1/x", "--dry-run", "--method", "get"), "--method does not"),
        (("--from", "A@127.0.0.1:1", "--dry-run", "--dicomweb-auth", "x"), "--dicomweb-auth does"),
        (("--from", "A@127.0.0.1:1", "--dry-run", "--method", "move"), "needs a port"),
        (("--from", "127.0.0.1", "--all", "--dry-run"), "127.0.0.1"),
        (("--from", "http://127.0.0.1:1/x", "--all", "--dry-run"), "cannot be reached"),
    ],
)
def test_what_cannot_be_done_is_said(options: tuple[object, ...], words: str) -> None:
    complains(fetch(*options), words)
