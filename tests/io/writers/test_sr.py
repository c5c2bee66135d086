"""Structured reports: the volumes, what they belong to, and who measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from medseg_nca.errors import OutputError
from medseg_nca.io.dicom.check.run import check_file, dciodvfy_path
from medseg_nca.io.dicom.objects.codes import private_code
from medseg_nca.io.dicom.read import read_dicom
from medseg_nca.io.segmentation import PredictedDice
from medseg_nca.io.write import write_result, write_results
from tests.io.dicom import build
from tests.io.writers import results


def _report(path: Path) -> highdicom.sr.ComprehensiveSR:
    return highdicom.sr.srread(path)


def _volumes(report: highdicom.sr.ComprehensiveSR, groups: list) -> dict[str, tuple[float, str]]:
    found = {}
    for group in groups:
        for item in group.get_measurements(name=codes.SCT.Volume):
            found[group.tracking_identifier] = (item.value, item.unit.value)
    return found


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("kind", results.KINDS)
def test_volumes_in_millilitres(tmp_path: Path, kind: str, enhanced: bool) -> None:
    image = results.series(tmp_path / "series", kind, enhanced=enhanced)
    segmentation = results.result(image, quality={"uncertainty": 0.03125, "odd": float("nan")})
    written = write_results(segmentation, tmp_path / "out", ["sr", "dicom-seg"])
    assert list(written) == ["sr", "dicom-seg"]
    report, seg = _report(written["sr"]), pydicom.dcmread(written["dicom-seg"])
    groups = report.content.get_volumetric_roi_measurement_groups()
    voxel = float(np.prod(image.spacing)) / 1000
    counts = [(segmentation.label_map.array == value).sum() for value in (1, 2, 7)]
    got = _volumes(report, groups)
    names = ["Anterior", "Posterior", "odd blob"]
    for name, count in zip(names, counts, strict=True):
        assert got[name] == (pytest.approx(count * voxel, rel=1e-5, abs=1e-6), "ml")
    for group, segment in zip(groups, seg.SegmentSequence, strict=True):
        assert group.reference_type == codes.DCM.ReferencedSegment
        assert group.tracking_uid == segment.TrackingUID
    assert groups[0].finding_type.value == "5366008"
    assert groups[0].finding_sites[0].topographical_modifier.meaning == "Anterior"
    assert groups[2].finding_type.scheme_designator == "99MEDSEG"
    (quality,) = report.content.get_image_measurement_groups()
    (figure,) = quality.get_measurements()
    assert (figure.name.value, figure.value) == (private_code("uncertainty").value, 0.03125)


def test_segments_are_referred_to_by_number(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series")
    written = write_results(results.result(image), tmp_path / "out", ["dicom-seg", "sr"])
    seg = pydicom.dcmread(written["dicom-seg"])
    text = pydicom.dcmread(written["sr"])
    numbers = [
        int(item.ReferencedSegmentNumber)
        for item in _references(text)
        if item.ReferencedSOPInstanceUID == seg.SOPInstanceUID and "ReferencedSegmentNumber" in item
    ]
    assert sorted(numbers) == [1, 2, 3]


def _references(dataset: pydicom.Dataset) -> list[pydicom.Dataset]:
    found = []
    for element in dataset.iterall():
        if element.keyword == "ReferencedSOPSequence":
            found += list(element.value)
    return found


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
def test_without_a_seg_it_refers_to_the_images(tmp_path: Path, enhanced: bool) -> None:
    image = results.series(tmp_path / "series", "oblique", enhanced=enhanced)
    labels = results.blobs(image.shape)
    labels[..., 3:] = 0
    report = _report(write_result(results.result(image, labels), tmp_path / "out", "sr"))
    groups = report.content.get_image_measurement_groups()
    assert len(groups) == 3
    planes = image.header["dicom"].stack.planes
    listed = {r.ReferencedSOPInstanceUID for r in _references(report)}
    assert listed == {plane.sop_instance_uid for plane in planes}
    first = list(groups[0].source_images)
    uids = {item.referenced_sop_instance_uid for item in first}
    assert uids <= {plane.sop_instance_uid for plane in planes[:3]}
    if enhanced:
        assert first[0].referenced_frame_numbers == [planes[k].frame + 1 for k in range(3)]


def test_nothing_found_is_zero_millilitres(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series")
    report = _report(write_result(results.empty(image), tmp_path / "out", "sr"))
    groups = report.content.get_image_measurement_groups()
    assert set(_volumes(report, groups).values()) == {(0.0, "ml")}


def test_who_made_it_and_that_it_is_not_verified(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series")
    report = _report(write_result(results.result(image), tmp_path / "out", "sr"))
    device = report.content.get_observer_contexts()[0].observer_identifying_attributes
    assert (device.name, device.manufacturer_name) == ("hippocampus@3", "medseg_nca")
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert report.PatientID == pydicom.dcmread(image.sources[0]).PatientID


def test_the_seg_of_another_result_is_refused(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series")
    other = results.result(image, labels=None)
    other = dataclasses.replace(other, labels=results.REGIONS)
    seg = write_result(other, tmp_path / "other", "dicom-seg")
    with pytest.raises(OutputError, match="is not the DICOM SEG of this result"):
        write_result(results.result(image), tmp_path / "out", "sr", seg_file=seg)


def test_a_2d_image_has_areas_and_one_without_a_scale_is_refused(tmp_path: Path) -> None:
    nowhere = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient"))
    pixels = build.pixels((1, 12, 9), dtype="uint8")
    build.write(tmp_path / "a", build.classic(pixels, modality="OT", **nowhere))
    image = read_dicom([tmp_path / "a"])
    assert image.dims == 2
    report = _report(write_result(results.result(image), tmp_path / "out", "sr"))
    (area,) = report.content.get_image_measurement_groups()[0].get_measurements()
    count = int((results.blobs(image.shape) == 1).sum())
    assert (area.name.meaning, area.unit.value) == ("Area", "mm2")
    assert area.value == pytest.approx(count * 0.81, rel=1e-4)
    build.write(tmp_path / "b", build.classic(pixels, modality="OT", PixelSpacing=None, **nowhere))
    image = read_dicom([tmp_path / "b"])
    with pytest.raises(OutputError, match="how large its pixels are"):
        write_result(results.result(image), tmp_path / "out2", "sr")


PREDICTED = {
    "Anterior": PredictedDice(0.91234, 0.85, 0.96, "accept"),
    "odd blob": PredictedDice(0.31, 0.05, 0.6, "reject"),
}


@pytest.mark.parametrize("formats", [["sr"], ["dicom-seg", "sr"]], ids=["images", "segment"])
def test_a_label_has_its_predicted_dice_and_verdict(tmp_path: Path, formats: list[str]) -> None:
    image = results.series(tmp_path / "series")
    segmentation = results.result(image, predicted_dice=PREDICTED, quality={"uncertainty": 0.5})
    path = write_results(segmentation, tmp_path / "out", formats)["sr"]
    content = _report(path).content
    groups = [*content.get_volumetric_roi_measurement_groups(),
              *content.get_image_measurement_groups()]  # fmt: skip
    found = {group.tracking_identifier: group for group in groups}
    said = {
        name: [(item.name.meaning, item.value) for item in group.get_measurements()[1:]]
        for name, group in found.items()
    }
    names = [f"Predicted Dice{end}" for end in ("", ", lower end", ", upper end")]
    assert said["Anterior"] == list(zip(names, (0.9123, 0.85, 0.96), strict=True))
    assert said["odd blob"] == list(zip(names, (0.31, 0.05, 0.6), strict=True))
    assert said["Posterior"] == []
    called = "Verdict on the segmentation"
    verdicts = {
        name: [
            item.value.meaning
            for item in group.get_qualitative_evaluations()
            if item.name.meaning == called
        ]
        for name, group in found.items()
    }
    wanted = {"Anterior": ["accept"], "odd blob": ["reject"], "Posterior": []}
    assert {name: verdicts[name] for name in wanted} == wanted


def test_another_estimate_is_another_object_and_none_leaves_no_trace(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series")

    def written(name: str, **estimate: PredictedDice) -> pydicom.Dataset:
        segmentation = results.result(image, predicted_dice=estimate)
        return pydicom.dcmread(write_result(segmentation, tmp_path / name, "sr"))

    plain, good = written("a"), written("b", Anterior=PREDICTED["Anterior"])
    bad = written("c", Anterior=PREDICTED["odd blob"])
    assert len({plain.SOPInstanceUID, good.SOPInstanceUID, bad.SOPInstanceUID}) == 3
    assert "Verdict" not in str(plain)
    assert "Predicted" not in str(plain)


@pytest.mark.peer
@pytest.mark.skipif(dciodvfy_path() is None, reason="dciodvfy is not installed")
def test_dciodvfy_accepts_predicted_dice(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series")
    segmentation = results.result(image, predicted_dice=PREDICTED, quality={"uncertainty": 0.5})
    written = write_results(segmentation, tmp_path / "out", ["dicom-seg", "sr"])
    result = check_file(written["sr"])
    assert result.tools == ("medseg-nca", "dciodvfy")
    assert not result.errors
