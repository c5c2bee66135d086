"""De-identified values: dates, identifiers, other alphabets, values that break their VR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, config
from pydicom.dataelem import DataElement
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)

from medseg_nca.io.dicom.deid.deidentify import (
    Deidentifier,
)
from medseg_nca.io.dicom.quiet import quiet
from tests.io.dicom import build, referring
from tests.io.dicom.leaks import leaks
from tests.io.dicom.treated import KEY, image, stored, treated


def test_dates_are_removed_or_moved_together(tmp_path: Path) -> None:
    planes = [image(), image(series="b", StudyDate="20200105")]
    removed = treated(stored(planes[0], tmp_path), tmp_path)
    assert removed.StudyDate == removed.PatientBirthDate == removed.StudyTime == ""
    assert "20200102" not in str(removed)
    shift = Deidentifier(KEY, dates="shift")
    first, second = (treated(stored(plane, tmp_path), tmp_path, shift) for plane in planes)
    days = KEY.days(build.PATIENT["PatientID"])
    assert first.StudyDate < "20200102"
    assert int(second.StudyDate) != int(first.StudyDate)
    assert np.datetime64("2020-01-02") - days == np.datetime64(
        f"{first.StudyDate[:4]}-{first.StudyDate[4:6]}-{first.StudyDate[6:]}"
    )
    assert first.StudyTime == "101112"
    assert first.PatientBirthDate == ""
    assert [item.CodeValue for item in first.DeidentificationMethodCodeSequence] == [
        "113100", "113107",
    ]  # fmt: skip


def test_moved_dates_include_those_of_the_tracer(tmp_path: Path) -> None:
    tracer = Dataset()
    tracer.RadiopharmaceuticalStartDateTime = "20200102093000.5"
    original = stored(image(modality="PT", LastMenstrualDate="20200103"), tmp_path)
    original.RadiopharmaceuticalInformationSequence = [tracer]
    (removed,) = treated(original, tmp_path).RadiopharmaceuticalInformationSequence
    assert "RadiopharmaceuticalStartDateTime" not in removed
    new = treated(original, tmp_path, Deidentifier(KEY, dates="shift"))
    moved = new.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime
    assert moved == f"{new.StudyDate}093000.5"
    assert "LastMenstrualDate" not in new


def test_an_identifier_of_digits_is_not_found_in_codes(tmp_path: Path) -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "10200004", "SCT", "no. 2000"
    original = stored(image(StudyID="2000", AccessionNumber="0200"), tmp_path)
    original.AnatomicRegionSequence = [item]
    (new,) = treated(original, tmp_path).AnatomicRegionSequence
    assert (new.CodeValue, new.CodeMeaning) == ("10200004", "REMOVED")


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müllerfake^Jörgzq"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ],
)
def test_names_in_other_alphabets(charset: Any, name: str, tmp_path: Path) -> None:
    original = image(SpecificCharacterSet=charset, PatientName=name, OperatorsName=name)
    original.SeriesDescription = original.Manufacturer = name.split("=")[-1]
    read = stored(original, tmp_path)
    raw = read.get_item("PatientName").value
    treated(read, tmp_path)
    content = (tmp_path / "new.dcm").read_bytes()
    parts = [part for part in raw.replace(b"=", b"^").split(b"^") if len(part) > 3]
    assert parts
    assert not [part for part in parts if part.strip() in content]


def test_names_of_regions(tmp_path: Path) -> None:
    planes = build.classic(build.pixels())
    corners = referring.square(build.AXIAL, 2, 1.0, 4.0)
    drawn = referring.rtstruct(planes, {"Liver": [(2, corners)], "Zorrofake 1": [(2, corners)]})
    new = treated(stored(drawn, tmp_path), tmp_path)
    assert [roi.ROIName for roi in new.StructureSetROISequence] == ["ROI 1", "ROI 2"]
    kept = treated(stored(drawn, tmp_path), tmp_path, Deidentifier(KEY, keep_labels=True))
    assert [roi.ROIName for roi in kept.StructureSetROISequence] == ["Liver", "REMOVED"]
    for old, fresh in zip(drawn.ROIContourSequence, new.ROIContourSequence, strict=True):
        assert old.ContourSequence[0].ContourData == fresh.ContourSequence[0].ContourData


def test_unknown_patients_are_not_merged(tmp_path: Path) -> None:
    ids = {
        treated(stored(image(PatientID="", study=study), tmp_path), tmp_path).PatientID
        for study in ("a", "b")
    }
    assert len(ids) == 2


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_values_that_break_their_vr_do_not_stop_it(syntax: str, tmp_path: Path) -> None:
    original = stored(image(), tmp_path, syntax)
    original.add_new(0x00189999, "LO", "x")
    for keyword, vr, value in (
        ("PixelSpacing", "DS", ["1.0 mm", "abc"]),
        ("StudyDate", "DA", "Zorrofake"),
    ):
        original[keyword] = DataElement(keyword, vr, value, already_converted=True)
    treated(original, tmp_path)
    assert not leaks((tmp_path / "new.dcm").read_bytes(), ["Zorrofake"])


def test_moved_times_are_times(tmp_path: Path) -> None:
    """What is no time of day, and what stands behind a date and its time, does not stay."""
    original = stored(image(), tmp_path)
    with quiet(), config.disable_value_validation():
        original.StudyTime, original.SeriesTime = "Zorrofake", "20200102"
        original.AcquisitionTime, original.ContentTime = "10:11:12", "1011"
        original.AcquisitionDateTime = "20200102101112.5+0100"
        original.FrameReferenceDateTime = "20200102Zorrofake"
        original.DateTimeOfLastCalibration = "20200101-20200102"
        new = treated(original, tmp_path, Deidentifier(KEY, dates="shift"))
    assert new.StudyTime == new.SeriesTime == ""
    assert (new.AcquisitionTime, new.ContentTime) == ("10:11:12", "1011")
    assert new.AcquisitionDateTime == f"{new.StudyDate}101112.5+0100"
    assert not new.get("FrameReferenceDateTime")
    assert not new.get("DateTimeOfLastCalibration")
    assert leaks((tmp_path / "new.dcm").read_bytes(), ["Zorrofake", "20200102", "20200101"]) == []


@pytest.mark.parametrize(
    "number", ["778812", "778812.0", "+778812", "-778812", "0778812", "778812 "]
)
@pytest.mark.parametrize("keyword", ["RescaleSlope", "TableHeight"])
def test_numbers_that_are_identifiers(keyword: str, number: str, tmp_path: Path) -> None:
    original = stored(image(PatientID="HOSP-778812"), tmp_path)
    original.add_new(keyword, "DS", number)
    original.ExposureTime = 778813
    new = treated(original, tmp_path)
    assert new[keyword].value == 0
    assert new.ExposureTime == 778813
    assert leaks((tmp_path / "new.dcm").read_bytes(), ["778812"]) == []


def test_classes_that_are_not_of_the_standard(tmp_path: Path) -> None:
    """A class says what an object is; a private one may have been made from a number."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = "1.2.840.113619.778812.1"
    reference.ReferencedSOPInstanceUID = "1.2.3.778812"
    original = stored(image(PatientID="778812"), tmp_path)
    original.ReferencedImageSequence = [reference]
    original.RelatedGeneralSOPClassUID = [original.SOPClassUID, "1.2.840.10008.5.1.4.1.1.2.778812"]
    new = treated(original, tmp_path)
    kept, other = new.RelatedGeneralSOPClassUID
    assert kept == new.SOPClassUID == original.SOPClassUID
    assert other.startswith("2.25.")
    assert leaks((tmp_path / "new.dcm").read_bytes(), ["778812"]) == []


@pytest.mark.parametrize(
    "uid", ["2.25.123456789012345678901234567890", "1.2.276.19410527.33441", "1.2.3.4.5.6.7"]
)
def test_uids_in_texts_are_replaced(uid: str, tmp_path: Path) -> None:
    original = stored(image(Manufacturer=f"as in {uid}.", SoftwareVersions="1.2.3.4"), tmp_path)
    new = treated(original, tmp_path)
    assert new.Manufacturer == f"as in {KEY.uid(uid)}."
    assert new.SoftwareVersions == "1.2.3.4"


@pytest.mark.parametrize("nobody", ["", "ANON", "unknown", "Anonymous "])
def test_patients_who_are_not_named_share_no_days(nobody: str, tmp_path: Path) -> None:
    """Who knows the day of one study must not learn those of all others."""
    shift = Deidentifier(KEY, dates="shift")
    first, second = (
        treated(stored(image(study=study, PatientID=nobody), tmp_path), tmp_path, shift)
        for study in ("a", "b")
    )
    assert first.PatientID != second.PatientID
    assert first.StudyDate != second.StudyDate
