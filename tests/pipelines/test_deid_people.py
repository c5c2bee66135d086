"""De-identification knows a patient's names from all files of his or hers, wherever they lie."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from medseg_nca.io.dicom.deid.deidentify import Deidentifier
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from medseg_nca.pipelines import dicom_copy, dicom_deidentify, dicom_import
from medseg_nca.pipelines.dicom_import import ImportSettings
from tests.io.dicom import build, referring
from tests.io.dicom.leaks import text_leaks, texts, tree_leaks

KEY = Pseudonyms(b"a key for tests, not a secret")
NAME = "Zwickelbauer"
ANON = {
    "PatientName": "ANON", "PatientID": "ANON", "PatientBirthDate": "",
    "ReferringPhysicianName": "", "StudyDate": "", "StudyTime": "", "AccessionNumber": "",
    "StudyID": "",
}  # fmt: skip
LABELS = (f"GTV {NAME}", "Tumor 14.03.2021", "P 778812", "rest H.Z.", "Liver")


def ct(series: str = "a", study: str = "a", **tags: Any) -> list[Dataset]:
    known = {
        "PatientName": f"{NAME}^Hieronymus", "PatientID": "HOSP-778812", "StudyDate": "20210314",
        "PatientBirthDate": "19410527",
    }  # fmt: skip
    return build.classic(build.pixels(), series=series, study=study, **{**known, **tags})


def rtstruct(planes: Sequence[Dataset], labels: Sequence[str] = LABELS, **tags: Any) -> Dataset:
    corners = referring.square(build.AXIAL, 2, 1.0, 4.0)
    made = referring.rtstruct(
        planes, {str(n): [(2, corners + n * 0.1)] for n in range(len(labels))}, **{**ANON, **tags}
    )
    for roi, label in zip(made.StructureSetROISequence, labels, strict=True):
        roi.ROIName = label
    for observation in made.RTROIObservationsSequence:
        observation.ROIInterpreter = observation.ROIObservationLabel = ""
    return made


def seg(planes: Sequence[Dataset], label: str, low: int = 2, **more: Any) -> Dataset:
    mask = np.zeros((5, 8, 6, 1), bool)
    mask[1:4, low : low + 2, 1:4] = True
    made = referring.seg(deepcopy(planes), mask, names=[label], **more)  # it shares elements
    for keyword, value in ANON.items():
        setattr(made, keyword, value)
    return made


def copied(source: Path, out: Path, **how: Any) -> list[Dataset]:
    dicom_deidentify.run(
        dicom_deidentify.DeidentifyRequest(
            source, out, Deidentifier(keep_labels=True, **how), key=KEY
        )
    )
    return [dcmread(path) for path in sorted(out.rglob("*.dcm"))]


def labels_in(copies: Sequence[Dataset]) -> list[str]:
    return [
        str(item.get("ROIName") or item.get("SegmentLabel"))
        for copy in copies
        for keyword in ("StructureSetROISequence", "SegmentSequence")
        for item in copy.get(keyword) or ()
    ]


@pytest.mark.parametrize(
    ("kind", "order", "workers"),
    [
        ("seg", "image-first", 0),
        ("seg", "image-last", 0),
        ("rtstruct", "image-first", 0),
        ("rtstruct", "image-last", 2),
    ],
)
def test_an_annotation_of_another_header(
    kind: str, order: str, workers: int, tmp_path: Path
) -> None:
    planes = ct()
    first, last = ("1", "2") if order == "image-first" else ("2", "1")
    build.write(tmp_path / "in" / first / "x", planes)
    made = seg(planes, LABELS[0]) if kind == "seg" else rtstruct(planes)
    build.write(tmp_path / "in" / last / "y", [made])
    how = Deidentifier(keep_labels=True)
    dicom_deidentify.run(
        dicom_deidentify.DeidentifyRequest(tmp_path / "in", tmp_path / "out", how, workers, key=KEY)
    )
    copies = [dcmread(path) for path in (tmp_path / "out").rglob("*.dcm")]
    assert labels_in(copies) == (["REMOVED"] if kind == "seg" else ["REMOVED"] * 4 + ["Liver"])
    assert tree_leaks(tmp_path / "out", [NAME, "778812", "14.03.2021"]) == {}


@pytest.mark.parametrize(
    "link", ["instances", "study", "frame", "patient", "series", "chain", "none"]
)
def test_what_puts_files_together(link: str, tmp_path: Path) -> None:
    """One shared identifier is enough; a placeholder in PatientID is none."""
    planes, others = ct(), build.classic(build.pixels(), study="other", series="o", **ANON)
    build.write(tmp_path / "in" / "b", planes)
    made = rtstruct(others)
    if link == "instances":
        made = rtstruct(planes, StudyInstanceUID=build.uid("z"), FrameOfReferenceUID=build.uid("f"))
    elif link == "study":
        made.StudyInstanceUID = planes[0].StudyInstanceUID
    elif link == "frame":
        made.FrameOfReferenceUID = planes[0].FrameOfReferenceUID
    elif link == "patient":
        made.PatientID = "HOSP-778812"
    elif link == "series":
        made.SeriesInstanceUID = planes[0].SeriesInstanceUID
    elif link == "chain":  # the structures refer to an image that a report puts to the patient
        report = seg(planes, "Milz")
        report.StudyInstanceUID = others[0].StudyInstanceUID
        build.write(tmp_path / "in" / "a", [report])
    else:  # who is called ANON everywhere is not one person
        stranger = ct(study="s", series="s", PatientName="Ebb^Quo", PatientID="ANON")
        build.write(tmp_path / "in" / "c", stranger)
    build.write(tmp_path / "in" / "z", [made])
    found = labels_in(copied(tmp_path / "in", tmp_path / "out"))
    found = [label for label in found if label != "Milz"]
    expected = list(LABELS) if link == "none" else ["REMOVED"] * 4 + ["Liver"]
    # A whole date in a label is removed whoever it is of.
    expected[1] = "REMOVED"
    assert found == expected


def test_patients_do_not_share_their_names(tmp_path: Path) -> None:
    """Names of one patient are labels of another."""
    for study, name in (("a", "Bone^An"), ("b", "Lobe^Li")):
        tags = {"PatientName": name, "PatientID": f"{study}-1"}
        planes = ct(study=study, **tags)
        build.write(tmp_path / "in" / study, planes)
        build.write(tmp_path / "in" / f"{study}2", [rtstruct(planes, ["Bone", "Lobe"], **tags)])
    found = labels_in(copied(tmp_path / "in", tmp_path / "out"))
    assert sorted(found) == ["Bone", "Lobe", "REMOVED", "REMOVED"]


def test_a_file_that_comes_later_is_heard(tmp_path: Path) -> None:
    """Copies that were made without its words are made again."""
    planes = ct()
    build.write(tmp_path / "in" / "seg", [seg(planes, LABELS[0])])
    assert labels_in(copied(tmp_path / "in", tmp_path / "out")) == [LABELS[0]]
    build.write(tmp_path / "in" / "ct", planes)
    copies = copied(tmp_path / "in", tmp_path / "out")
    assert labels_in(copies) == ["REMOVED"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.dcm")}
    copied(tmp_path / "in", tmp_path / "out")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.dcm")}
    assert tree_leaks(tmp_path / "out", [NAME]) == {}


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_import(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    planes = ct()
    made = seg(planes, LABELS[0]) if kind == "seg" else rtstruct(planes)
    build.write(tmp_path / "in" / "0", [made])
    build.write(tmp_path / "in" / "1", planes)
    settings = ImportSettings(deidentify=True, key=KEY)
    with caplog.at_level(logging.DEBUG):
        report = dicom_import.run(
            dicom_import.ImportRequest(tmp_path / "in", tmp_path / "out", settings)
        )
    assert report.labels is not None
    assert len(report.records) == 1
    secrets = [NAME, "778812", "14.03.2021", "H.Z.", "Hieronymus"]
    assert tree_leaks(tmp_path / "out", secrets) == {}
    assert text_leaks([json.dumps(report.to_dict()), caplog.text], secrets) == []
    assert "Liver" in report.labels.names


def test_a_name_in_a_file_that_is_not_imported(tmp_path: Path) -> None:
    """Image and annotation are anonymous; another series of the study is not."""
    planes = build.classic(build.pixels(), **ANON)
    build.write(tmp_path / "in" / "ct", planes)
    build.write(tmp_path / "in" / "rt", [rtstruct(planes)])
    settings = ImportSettings(deidentify=True, key=KEY, select="SeriesNumber=1")
    first = dicom_import.run(
        dicom_import.ImportRequest(tmp_path / "in", tmp_path / "out", settings)
    )
    assert first.labels is not None
    assert LABELS[0] in first.labels.names
    build.write(tmp_path / "in" / "other", ct(series="x", SeriesNumber=9)[:1])
    report = dicom_import.run(
        dicom_import.ImportRequest(tmp_path / "in", tmp_path / "out", settings)
    )
    assert report.cached == 0
    assert report.labels is not None
    assert report.labels.names == ("region 1", "region 2", "region 3", "region 4", "Liver")
    assert tree_leaks(tmp_path / "out", [NAME, "778812"]) == {}


def test_codes_that_name_someone(tmp_path: Path) -> None:
    planes = ct()
    codes = [("99ME", NAME, "Thing"), ("SCT", "10200004", f"Liver of {NAME}")]
    for number, code in enumerate(codes):
        made = seg(planes, f"by {NAME}", 3 * number, codes=[code], series=f"s{number}")
        build.write(tmp_path / "in" / f"seg{number}", [made])
    build.write(tmp_path / "in" / "ct", planes)
    settings = ImportSettings(deidentify=True, key=KEY)
    dicom_import.run(dicom_import.ImportRequest(tmp_path / "in", tmp_path / "out", settings))
    assert tree_leaks(tmp_path / "out", [NAME]) == {}
    copied(tmp_path / "in", tmp_path / "copies")
    assert tree_leaks(tmp_path / "copies", [NAME]) == {}


def test_an_error_that_nobody_foresaw_quotes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(f"cannot read {NAME}")

    build.write(tmp_path / "in", ct())
    for name in ("deidentify_dataset", "person_of"):
        with monkeypatch.context() as patched, caplog.at_level(logging.DEBUG):
            # A fault that could be brought about would be known, and mended.
            patched.setattr(dicom_copy, name, fail)
            report = dicom_deidentify.run(
                dicom_deidentify.DeidentifyRequest(tmp_path / "in", tmp_path / name, key=KEY)
            )
        assert len(report.refused) == 5
        assert NAME not in caplog.text
        assert tree_leaks(tmp_path / name, [NAME]) == {}


def test_every_text_of_every_output(tmp_path: Path) -> None:
    """What is read back from copies and data sets, with moved dates."""
    planes = ct(ConvolutionKernel="20210314", SoftwareVersions=f"v1 {NAME}", SeriesNumber=20210314)
    build.write(tmp_path / "in" / "ct", planes)
    build.write(tmp_path / "in" / "rt", [rtstruct(planes)])
    copied(tmp_path / "in", tmp_path / "out", dates="shift")
    found = [text for path in (tmp_path / "out").rglob("*.dcm") for text in texts(path)]
    secrets = [NAME, "20210314", "14.03.2021", "778812", "HOSP-778812", "Hieronymus", "H.Z."]
    assert text_leaks(found, secrets) == []
    assert tree_leaks(tmp_path / "out", secrets) == {}
    settings = ImportSettings(deidentify=True, key=KEY, select="ConvolutionKernel=20210314")
    dicom_import.run(dicom_import.ImportRequest(tmp_path / "in", tmp_path / "data", settings))
    assert tree_leaks(tmp_path / "data", secrets) == {}
    assert (tmp_path / "data" / "dataset.json").exists()


@pytest.mark.parametrize("keyword", ["ConvolutionKernel", "AcquisitionNumber"])
def test_names_of_cases_are_made_of_no_text(keyword: str, tmp_path: Path) -> None:
    """A series with several volumes names them by what tells them apart."""
    values = ("20210314", "778812") if keyword == "ConvolutionKernel" else (778812, 20210314)
    for number, value in enumerate(values):
        planes = ct(**{keyword: value})
        for plane in planes:
            plane.SOPInstanceUID = build.uid(plane.SOPInstanceUID, number)
        build.write(tmp_path / "in" / str(number), planes)
    settings = ImportSettings(deidentify=True, key=KEY)
    report = dicom_import.run(
        dicom_import.ImportRequest(tmp_path / "in", tmp_path / "out", settings)
    )
    assert len(report.records) == 2
    assert tree_leaks(tmp_path / "out", ["20210314", "778812", "2.02103e"]) == {}


def test_reports_and_curves(tmp_path: Path) -> None:
    """Texts of structured reports, annotations of waveforms, notes beside images."""
    text, person, code = Dataset(), Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "121071", "DCM", "Finding"
    text.ValueType, text.TextValue = "TEXT", f"Seen by {NAME} on 14.03.2021"
    person.ValueType, person.PersonName = "PNAME", f"{NAME}^H"
    date = Dataset()
    date.ValueType, date.Date, date.DateTime = "DATE", "20210314", "20210314101112"
    measured = Dataset()
    measured.ValueType = "CODE"
    named = deepcopy(code)
    named.CodeMeaning = f"as {NAME.upper()} says"
    measured.ConceptCodeSequence = [named]
    for item in (text, person, date, measured):
        item.ConceptNameCodeSequence = [code]
    report = ct()[0]
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.Modality, report.ContentSequence = "SR", [text, person, date, measured]
    note = Dataset()
    note.UnformattedTextValue, note.ConceptNameCodeSequence = f"{NAME} moved", [code]
    report.WaveformAnnotationSequence = [note]
    drawn = Dataset()
    label = Dataset()
    label.UnformattedTextValue = f"{NAME} 20210314"
    drawn.TextObjectSequence, drawn.GraphicLayer = [label], "ZWICKELBAUER"
    report.GraphicAnnotationSequence = [drawn]
    for keyword in ("PixelData", "Rows", "Columns"):
        del report[keyword]
    build.write(tmp_path / "in", [report])
    for dates in ("remove", "shift"):
        (copy,) = copied(tmp_path / "in", tmp_path / dates, dates=dates)
        assert len(copy.ContentSequence) == 4
        assert copy.ContentSequence[0].ConceptNameCodeSequence[0].CodeMeaning == "Finding"
        secrets = [NAME, "20210314", "14.03.2021", "20210314101112"]
        assert tree_leaks(tmp_path / dates, secrets) == {}


@pytest.mark.parametrize(
    ("charset", "coding"),
    [("ISO_IR 100", "latin-1"), ("ISO_IR 192", "utf-8"), (None, "utf-8"), (None, "latin-1")],
)
def test_files_of_other_character_sets(charset: Any, coding: str, tmp_path: Path) -> None:
    """The image names its character set; the annotation another one, or none at all."""
    planes = ct(PatientName="Österreicher^Zoë", PatientID="1")
    build.write(tmp_path / "in" / "ct", planes)
    made = rtstruct(planes, ["x" * 20, "Liver"])
    path = build.save(made, tmp_path / "in" / "rt.dcm")
    raw = path.read_bytes()
    label = "Ö. Österreicher".encode(coding)
    raw = raw.replace(b"x" * 20, label + b" " * (20 - len(label)))
    old = b"\x08\0\5\0CS\x0a\0ISO_IR 192"
    assert old in raw
    new = b"\x08\0\5\0CS\x0a\0" + (charset or "").ljust(10).encode()
    path.write_bytes(raw.replace(old, new))
    assert labels_in(copied(tmp_path / "in", tmp_path / "out")) == ["REMOVED", "Liver"]
