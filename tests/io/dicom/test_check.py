"""The check names what is wrong, in a file and between files, with and without dciodvfy."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from medseg_nca.io.dicom.check.run import check_file, check_files, dciodvfy_path
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.write import write_result, write_results
from tests.io.dicom import build
from tests.io.writers import results

FORMATS = ("dicom-seg", "rtstruct", "sr", "sc")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One result in every format, and a file of its source."""
    folder = tmp_path_factory.mktemp("check")
    image = results.series(folder / "series", "oblique")
    paths = write_results(results.result(image), folder / "case", FORMATS)
    other = {"labelmap": write_result(
        results.result(image), folder / "map", "dicom-seg", seg_type="labelmap"
    )}  # fmt: skip
    return {**paths, **other, "source": image.sources[0]}


@pytest.fixture(autouse=True)
def _without_dciodvfy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "peer" not in request.keywords:
        folders = os.environ["PATH"].split(os.pathsep)
        others = [folder for folder in folders if not (Path(folder) / "dciodvfy").exists()]
        monkeypatch.setenv("PATH", os.pathsep.join(others))


def _broken(path: Path, folder: Path, change: Callable[[Dataset], Any]) -> Path:
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(folder / "broken.dcm")
    return folder / "broken.dcm"


@pytest.mark.parametrize("name", [*FORMATS, "labelmap", "source"])
def test_what_we_write_has_no_errors(written: dict[str, Path], name: str) -> None:
    result = check_file(written[name])
    assert not result.findings
    assert result.tools == ("medseg-nca",)
    assert result.kind


def test_files_that_belong_together_agree(written: dict[str, Path]) -> None:
    assert not any(result.findings for result in check_files(list(written.values())))


def _delete(keyword: str) -> Callable[[Dataset], Any]:
    return lambda dataset: delattr(dataset, keyword)


def _segment(number: int, keyword: str, value: Any) -> Callable[[Dataset], Any]:
    return lambda d: setattr(d.SegmentSequence[number - 1], keyword, value)


def _code(keyword: str, value: str) -> Callable[[Dataset], Any]:
    return lambda d: setattr(
        d.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0], keyword, value
    )


def _frame(change: Callable[[Dataset], Any]) -> Callable[[Dataset], Any]:
    return lambda dataset: change(dataset.PerFrameFunctionalGroupsSequence[1])


def _same_place(dataset: Dataset) -> None:
    groups = dataset.PerFrameFunctionalGroupsSequence
    groups[1].PlanePositionSequence = groups[0].PlanePositionSequence


def _same_codes(dataset: Dataset) -> None:
    for segment in dataset.SegmentSequence:
        del segment.SegmentedPropertyTypeCodeSequence[0][0x00620011:]
        segment.SegmentedPropertyTypeCodeSequence[0].CodeValue = "5366008"


def _unlisted(dataset: Dataset) -> None:
    del dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]


SEG = [
    (_segment(2, "SegmentNumber", 1), "used twice: 1"),
    (_segment(3, "SegmentNumber", 4), "do not count from 1"),
    (_segment(1, "SegmentAlgorithmName", ""), "by what algorithm"),
    (lambda d: setattr(d, "SegmentationType", "OUTLINE"), "SegmentationType"),
    (lambda d: d.PerFrameFunctionalGroupsSequence.pop(), "NumberOfFrames is another"),
    (_frame(lambda g: delattr(g, "PlanePositionSequence")), "no position, orientation"),
    (_frame(lambda g: setattr(g.SegmentIdentificationSequence[0],
        "ReferencedSegmentNumber", 9)), "belongs to no segment"),
    (_frame(lambda g: setattr(
        g.FrameContentSequence[0], "DimensionIndexValues", [1])), "one index value for each"),
    (_same_place, "at the same place"),
    (_unlisted, "list of references lacks"),
    (_delete("ReferencedSeriesSequence"), "which series it was made from"),
    (_code("CodeValue", "5366009"), "no SNOMED CT code"),
    (_code("CodeValue", "78961009"), "means 'Spleen'"),
    (_code("CodeValue", "138875005"), "is not in the tables"),
    (_code("CodeMeaning", ""), "no value or no meaning"),
    (lambda d: setattr(d.SegmentSequence[2].SegmentedPropertyTypeCodeSequence[0],
                       "CodeValue", "ABC"), "private code is not that of its name"),
    (_delete("StudyInstanceUID"), "StudyInstanceUID is absent"),
    (lambda d: setattr(d, "SOPInstanceUID", "1.2.3"), "names another SOPInstanceUID"),
    (lambda d: setattr(d, "SeriesInstanceUID", "1.02.3"), "SeriesInstanceUID holds what is no UID"),
    (lambda d: setattr(d, "SegmentSequence", []), "there is no segment"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("change", "said"), SEG, ids=[said for _, said in SEG])
def test_broken_segmentations(
    tmp_path: Path, written: dict[str, Path], change: Callable[[Dataset], Any], said: str
) -> None:
    result = check_file(_broken(written["dicom-seg"], tmp_path, change))
    assert any(said in finding.message for finding in result.findings), result.findings


def _contour(change: Callable[[Dataset], Any]) -> Callable[[Dataset], Any]:
    return lambda dataset: change(dataset.ROIContourSequence[0].ContourSequence[0])


OTHERS = [
    ("rtstruct", lambda d: setattr(
        d.StructureSetROISequence[1], "ROINumber", 1), "used twice: [1]"),
    ("rtstruct", lambda d: setattr(d.ROIContourSequence[1], "ReferencedROINumber", 9), "ROI 9"),
    ("rtstruct", lambda d: setattr(
        d.RTROIObservationsSequence[1], "ReferencedROINumber", 9), "observed, but not listed"),
    ("rtstruct", lambda d: setattr(d.StructureSetROISequence[0],
        "ReferencedFrameOfReferenceUID", "1.2.3"), "frame of reference that is not listed"),
    ("rtstruct", _contour(lambda c: setattr(c, "NumberOfContourPoints", 99)), "as many points"),
    ("rtstruct", _contour(lambda c: setattr(c, "ContourData", ["1", "2", "3"])), "as many points"),
    ("rtstruct", _contour(lambda c: setattr(c.ContourImageSequence[0],
        "ReferencedSOPInstanceUID", "1.2.3")), "image that is not listed"),
    ("rtstruct", _contour(lambda c: setattr(
        c, "ContourData", ["1.23456789012345678", *c.ContourData[1:]])), "more than 16 characters"),
    ("sr", lambda d: delattr(d, "CurrentRequestedProcedureEvidenceSequence"), "listed as evidence"),
    ("sr", lambda d: delattr(d, "ContentSequence"), "no content"),
    ("sc", lambda d: delattr(d, "BurnedInAnnotation"), "BurnedInAnnotation"),
    ("sc", lambda d: setattr(d, "BurnedInAnnotation", "YES"), "name the patient"),
    ("sc", lambda d: setattr(d, "Rows", 4000), "claims"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "change", "said"), OTHERS, ids=[f"{n}: {s}" for n, _, s in OTHERS]
)
def test_broken_structure_sets_reports_and_captures(
    tmp_path: Path,
    written: dict[str, Path],
    name: str,
    change: Callable[[Dataset], Any],
    said: str,
) -> None:
    result = check_file(_broken(written[name], tmp_path, change))
    assert any(said in finding.message for finding in result.findings), result.findings


@pytest.mark.parametrize(
    ("keyword", "said"),
    [
        ("FrameOfReferenceUID", "another frame of reference"),
        ("StudyInstanceUID", "another study"),
        ("PatientID", "another patient"),
    ],
)
def test_objects_that_contradict_their_source(
    tmp_path: Path, written: dict[str, Path], keyword: str, said: str
) -> None:
    path = _broken(written["dicom-seg"], tmp_path, lambda d: setattr(d, keyword, "1.2.3"))
    result = check_files([path, written["source"]])[0]
    assert [finding.message for finding in result.errors] == [f"refers to an instance of {said}"]
    assert not check_file(path).errors


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"no DICOM at all")
    cut = tmp_path / "cut.dcm"
    (whole,) = build.write(tmp_path / "s", build.classic(build.pixels((1, 8, 6))))
    cut.write_bytes(whole.read_bytes()[:-40])
    for path in (tmp_path / "x.dcm", cut, tmp_path / "absent.dcm"):
        (finding,) = check_file(path).findings
        assert finding.severity == "error"
        assert path.name in finding.message


def _install(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program that is called dciodvfy where programs are looked for."""
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    program = folder / "dciodvfy"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_what_dciodvfy_says_is_taken_over_without_values(
    tmp_path: Path, written: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (
        "echo 'MRImage'; echo \"Error - PN Patient's Name = <Doe^Jane> - bad\" >&2; "
        "echo 'Warning - odd attribute <Laterality>'"
    )
    _install(said, tmp_path, monkeypatch)
    result = check_file(written["sc"])
    assert result.tools == ("medseg-nca", "dciodvfy")
    assert [f.message for f in result.errors] == ["PN Patient's Name = <...> - bad"]
    assert [f.message for f in result.warnings] == ["odd attribute <Laterality>"]
    assert {f.source for f in result.findings} == {"dciodvfy"}


def test_a_dciodvfy_that_never_ends_or_floods_is_stopped(
    tmp_path: Path, written: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _install("exec /bin/sleep 100", tmp_path, monkeypatch)
    (finding,) = check_file(written["sc"], timeout_s=0.5).findings
    assert "did not finish" in finding.message
    _install("while :; do echo 'Error - again'; done", tmp_path, monkeypatch)
    (finding,) = check_file(written["sc"]).findings
    assert finding.message == "again"


@pytest.mark.peer
def test_with_the_real_dciodvfy(written: dict[str, Path], tmp_path: Path) -> None:
    if dciodvfy_path() is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    for path in written.values():
        assert not check_file(path).errors
    (said,) = check_file(written["labelmap"]).warnings
    assert "does not know this kind" in said.message
    path = _broken(written["dicom-seg"], tmp_path, lambda d: delattr(d, "ContentLabel"))
    assert any("ContentLabel" in f.message for f in check_file(path).errors)


def test_values_are_checked_at_every_depth(tmp_path: Path) -> None:
    plane = build.classic(build.pixels((1, 8, 6)))[0]
    inner = Dataset()
    plane.ReferencedImageSequence = [inner, inner]
    with quiet():
        inner.ReferencedSOPInstanceUID = "not.a.uid"
        path = build.save(plane, tmp_path / "x.dcm")
    (finding,) = check_file(path).findings
    assert finding.message == "ReferencedSOPInstanceUID holds what is no UID (2 times)"
