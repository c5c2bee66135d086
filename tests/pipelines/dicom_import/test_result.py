"""DICOM becomes a data set: images, labels, annotations of several kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from medseg_nca.datasets.find import open_dataset
from medseg_nca.io.read import read_image, read_label, read_volume
from medseg_nca.pipelines.dicom_import import ImportRequest, ImportSettings, run
from medseg_nca.pipelines.dicom_report import ImportReport
from tests.io.dicom import build, referring
from tests.pipelines.dicom_import.clinic import box, clinic, ct, region

SPLEEN = ("SCT", "78961009", "Spleen")


def expected(mask: NDArray[Any]) -> NDArray[Any]:
    """A mask of :func:`box` in the axis order of an imported volume."""
    return np.asarray(mask[..., 0][:, ::-1].transpose(2, 1, 0))


def by_id(report: ImportReport) -> dict[str, Any]:
    return {one.id: (record, one) for record, one in report.maps}


def test_a_clinic_becomes_a_data_set(tmp_path: Path) -> None:
    report = run(ImportRequest(clinic(tmp_path / "in"), tmp_path / "out"))
    assert [one.id for _, one in report.maps] == [
        "FAKEID-0815-XQ_1", "FAKEID-0815-XQ_2", "FAKESECOND-1_1",
    ]  # fmt: skip
    assert [(r.kind, r.what, r.modality, r.files) for r in report.refused] == [
        ("missing-slices", "series", "CT", 4)
    ]
    assert report.left_out == {"file-not-dicom": 1}
    dataset = open_dataset(tmp_path / "out")
    assert dataset.format == "msd"
    assert [case.patient for case in dataset.cases] == ["FAKEID-0815-XQ"] * 2 + ["FAKESECOND-1"]
    assert [case.label is not None for case in dataset.cases] == [True, True, False]
    assert dataset.labels is not None
    assert dataset.labels.names == ("Zorrofake liver", "Spleen", "by Fakedoctorzq")
    code = dataset.labels.labels[0].code
    assert code is not None
    assert (code.scheme, code.value, code.meaning) == referring.LIVER
    assert dataset.labels.labels[1].code is None


def test_volumes_and_label_maps_lie_where_they_did(tmp_path: Path) -> None:
    run(ImportRequest(clinic(tmp_path / "in"), tmp_path / "out"))
    image = read_volume(tmp_path / "out" / "imagesTr" / "FAKEID-0815-XQ_1.nii.gz")
    np.testing.assert_array_equal(image.array[0], expected(build.pixels()[..., None]))
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    first_pixel = image.affine @ [0, image.shape[1] - 1, 0, 1]
    np.testing.assert_allclose(first_pixel, to_ras @ build.OBLIQUE @ [0, 0, 0, 1], atol=1e-4)
    label = read_label(tmp_path / "out" / "labelsTr" / "FAKEID-0815-XQ_1.nii.gz")
    np.testing.assert_array_equal(label.array[0] == 1, expected(box(2, 5)))
    np.testing.assert_allclose(label.affine, image.affine)


def test_annotations_in_several_files_are_united_or_stay_apart(tmp_path: Path) -> None:
    planes = ct()
    build.write(tmp_path / "in" / "ct", planes)
    first = referring.seg(planes, box(0, 2), series="s1", ContentDate="20200101")
    apart = referring.seg(
        planes, box(4, 6), series="s2", ContentDate="20200102", names=["Spleen"], codes=[SPLEEN]
    )
    again = referring.seg(planes, box(1, 3), series="s3", ContentDate="20200103")
    for number, annotation in enumerate((again, apart, first)):
        build.write(tmp_path / "in" / f"seg{number}", [annotation])
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert list(by_id(report)) == ["FAKEID-0815-XQ_1", "FAKEID-0815-XQ_1_annotation-2"]
    united = read_label(tmp_path / "out" / "labelsTr" / "FAKEID-0815-XQ_1.nii.gz").array[0]
    np.testing.assert_array_equal(united == 1, expected(box(0, 2)))
    np.testing.assert_array_equal(united == 2, expected(box(4, 6)))
    second = read_label(tmp_path / "out" / "labelsTr" / "FAKEID-0815-XQ_1_annotation-2.nii.gz")
    np.testing.assert_array_equal(second.array[0] == 1, expected(box(1, 3)))
    dataset = open_dataset(tmp_path / "out")
    assert len({case.patient for case in dataset.cases}) == 1


def two_patients(root: Path, *segs: dict[str, Any]) -> None:
    """A CT of each patient with a SEG of one segment."""
    for number, how in enumerate(segs):
        planes = ct(study=str(number), PatientID=f"P{number}")
        region = how.pop("region", None)
        annotation = referring.seg(planes, box(1, 3 + number), **how)
        if region is not None:
            annotation.SegmentSequence[0].AnatomicRegionSequence = [region]
        build.write(root / str(number) / "ct", planes)
        build.write(root / str(number) / "seg", [annotation])


def labels_of(report: ImportReport) -> list[tuple[str, list[int]]]:
    """The names of the labels, and the numbers that each case holds."""
    assert report.labels is not None
    maps = [read_label(report.out / "labelsTr" / Path(one.image).name) for _, one in report.maps]
    held = [sorted(set(np.unique(found.array).tolist()) - {0}) for found in maps]
    return list(zip(report.labels.names, held, strict=True))


def test_the_sides_of_an_organ_are_two_labels(tmp_path: Path) -> None:
    kidney = [("SCT", "64033007", "Kidney")]
    left, right = {"names": ["rein gauche"]}, {"names": ["rein droit"]}
    two_patients(tmp_path / "in", left | {"codes": kidney}, right | {"codes": kidney})
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert labels_of(report) == [("rein gauche", [1]), ("rein droit", [2])]
    tree = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [note["kind"] for note in tree["label_notes"]] == ["codes-of-several"]


def test_masses_of_two_organs_are_two_labels(tmp_path: Path) -> None:
    mass = {"names": ["mass"], "codes": [("SCT", "4147007", "Mass")]}
    liver, kidney = region("10200004"), region("64033007")
    two_patients(tmp_path / "in", mass | {"region": liver}, mass | {"region": kidney})
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert labels_of(report) == [
        ("mass (4147007, 10200004)", [1]),
        ("mass (4147007, 64033007)", [2]),
    ]


def test_what_is_lost_of_outlines_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each kind once, by import and by reading the folder as it lies."""
    image = build.classic(build.pixels())
    across = np.array([(1.0, 2.0, 1.0), (4.0, 2.0, 1.0), (4.0, 2.0, 3.0), (1.0, 2.0, 3.0)])
    sagittal = across @ build.AXIAL[:3, :3].T + build.AXIAL[:3, 3]
    outlines = [(plane, referring.square(build.AXIAL, plane, 1.0, 4.0)) for plane in (1, 3, 40)]
    outlines = [(min(plane, 4), points) for plane, points in [*outlines, (2, sagittal)]]
    broken = referring.rtstruct(image, {"a": outlines, "b": outlines})
    for roi in broken.ROIContourSequence:
        roi.ContourSequence.append(Dataset())
        roi.ContourSequence[-1].ContourGeometricType = "CLOSED_PLANAR"
    build.write(tmp_path / "in", [*image, broken])
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert len(report.records) == 1
    told = caplog.text.splitlines()
    for text in ("not lie in a slice", "outside the image", "slices between", "unreadable"):
        (line,) = (one for one in told if text in one)
        assert "and 1 more, see provenance.json" in line
    caplog.clear()
    (case,) = open_dataset(tmp_path / "in").cases
    assert case.label is not None
    read_label(case.label, read_image(case.images), case.segments)
    assert caplog.text.count("outside the image") == 2


def test_an_organ_of_two_names_is_one_label_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    two_patients(tmp_path / "in", {"names": ["Leber"]}, {"names": ["foie"]})
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert report.labels is not None
    assert report.labels.names == ("foie",)
    assert "several names: 'foie' (1 case), 'leber' (1 case)" in caplog.text
    tree = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [note["kind"] for note in tree["label_notes"]] == ["names-differ"]


def test_preprocessing_the_folder_as_it_lies_gives_the_same_numbers(tmp_path: Path) -> None:
    kidney = [("SCT", "64033007", "Kidney")]
    left, right = {"names": ["Niere li."]}, {"names": ["Niere re."]}
    two_patients(tmp_path / "in", left | {"codes": kidney}, right | {"codes": kidney})
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    dataset = open_dataset(tmp_path / "in")
    assert dataset.labels == report.labels
    for case in dataset.cases:
        assert case.label is not None
        lying = read_label(case.label, read_image(case.images), case.segments)
        written = read_label(tmp_path / "out" / "labelsTr" / f"{case.id}.nii.gz")
        assert np.unique(lying.array).tolist() == np.unique(written.array).tolist()
        assert len(np.unique(lying.array)) == 2


@pytest.mark.parametrize(("rule", "winner"), [("last", 2), ("smallest", 1), ("refuse", None)])
def test_overlapping_segments_of_one_object(rule: Any, winner: int | None, tmp_path: Path) -> None:
    planes = ct()
    masks = np.concatenate([box(1, 3), box(2, 6)], axis=-1)
    seg = referring.seg(planes, masks, names=["Liver", "Spleen"], codes=[referring.LIVER, SPLEEN])
    build.write(tmp_path / "in" / "ct", planes)
    build.write(tmp_path / "in" / "seg", [seg])
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out", ImportSettings(overlap=rule)))
    if winner is None:
        assert [r.kind for r in report.refused] == ["segments-overlap"]
        assert not (tmp_path / "out" / "labelsTr").exists()
        return
    label = read_label(tmp_path / "out" / "labelsTr" / "FAKEID-0815-XQ_1.nii.gz").array[0]
    both = expected(box(1, 3)) & expected(box(2, 6))
    assert set(label[both]) == {winner}
    assert report.maps[0][1].overlaps[0].voxels == both.sum()


@pytest.mark.parametrize(
    ("labels", "found"),
    [("auto", {1: "Liver"}), ("seg", {1: "Liver"}), ("rtstruct", {1: "Drawn"}), ("none", {})],
)
def test_the_source_of_labels(labels: Any, found: dict[int, str], tmp_path: Path) -> None:
    planes = build.classic(build.pixels())
    corners = referring.square(build.AXIAL, 2, 1.0, 4.0)
    build.write(tmp_path / "in" / "ct", planes)
    build.write(tmp_path / "in" / "seg", [referring.seg(planes, box(1, 4))])
    build.write(tmp_path / "in" / "rt", [referring.rtstruct(planes, {"Drawn": [(2, corners)]})])
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out", ImportSettings(labels=labels)))
    table = report.labels.labels if report.labels else ()
    assert {label.values[0]: label.name for label in table} == found
    assert report.refused == ()


def test_an_annotation_of_another_frame_of_reference(tmp_path: Path) -> None:
    planes = ct()
    seg = referring.seg(planes, box(1, 4), FrameOfReferenceUID=build.uid("elsewhere"))
    build.write(tmp_path / "in" / "ct", planes)
    build.write(tmp_path / "in" / "seg", [seg])
    report = run(ImportRequest(tmp_path / "in", tmp_path / "out"))
    assert [(r.what, r.kind) for r in report.refused] == [
        ("annotation", "other-frame-of-reference")
    ]
    assert len(report.records) == 1
    assert open_dataset(tmp_path / "out").labelled == ()
