"""DICOM SEG: every voxel in its place, every segment with its own code, every reference right."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from medseg_nca.config import Label, LabelTable
from medseg_nca.errors import OutputError
from medseg_nca.io.dicom.annotations.seg import read_seg
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.read import read_dicom
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_result
from tests.io.dicom import build
from tests.io.writers import results

SEG_TYPES = ("binary", "fractional", "labelmap")


def _points(seg: highdicom.seg.Segmentation, number: int) -> np.ndarray:
    """LPS mm of a segment's voxels, by highdicom's own geometry."""
    volume = seg.get_volume(combine_segments=False, segment_numbers=[number])
    index = np.argwhere(volume.array[..., 0] > 0.5)
    points = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    points = np.round(points, 3) + 0.0
    return points[np.lexsort(points.T)]


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("seg_type", SEG_TYPES)
@pytest.mark.parametrize("kind", results.KINDS)
def test_every_voxel_lies_where_it_was_for_highdicom(
    tmp_path: Path, kind: str, seg_type: str, enhanced: bool
) -> None:
    image = results.series(tmp_path / "series", kind, enhanced=enhanced)
    segmentation = results.result(image)
    segmentation = dataclasses.replace(
        segmentation, probabilities=results.probabilities(segmentation)
    )
    if seg_type == "fractional":  # sure enough that a half tells the labels apart
        sure = (segmentation.probabilities.array > 0.39).astype(np.float32)
        segmentation = dataclasses.replace(
            segmentation, probabilities=segmentation.label_map.with_array(sure)
        )
    path = write_result(segmentation, tmp_path / "out", "dicom-seg", seg_type=seg_type)
    seg = highdicom.seg.segread(path)
    assert seg.SegmentationType == seg_type.upper()
    for number, value in ((1, 1), (2, 2), (3, 7)):
        wanted = results.in_space(image, segmentation.label_map.array[0] == value)
        np.testing.assert_allclose(_points(seg, number), wanted, atol=2e-3)


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("seg_type", ["binary", "labelmap"])
@pytest.mark.parametrize("kind", results.KINDS)
def test_it_comes_back_as_the_same_label_map(
    tmp_path: Path, kind: str, seg_type: str, enhanced: bool
) -> None:
    image = results.series(tmp_path / "series", kind, enhanced=enhanced)
    segmentation = results.result(image)
    path = write_result(segmentation, tmp_path / "out", "dicom-seg", seg_type=seg_type)
    segments = {s.number: s for s in read_seg(path, image).segments}
    for number, value in ((1, 1), (2, 2), (3, 7)):
        assert (segments[number].mask == (segmentation.label_map.array[0] == value)).all()
    assert segments[1].code == segments[2].code == results.HIPPOCAMPUS
    assert segments[1].concept.modifiers == (results.ANTERIOR,)


def test_a_turned_array_is_written_by_its_affine(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series", "oblique")
    plain = results.result(image)
    turned_image = _turned(image)
    turned = dataclasses.replace(plain, image=turned_image, label_map=_turned(plain.label_map))
    first = write_result(plain, tmp_path / "plain", "dicom-seg")
    second = write_result(turned, tmp_path / "turned", "dicom-seg")
    one, two = pydicom.dcmread(first), pydicom.dcmread(second)
    assert one.PixelData == two.PixelData
    assert one.PerFrameFunctionalGroupsSequence == two.PerFrameFunctionalGroupsSequence


def _turned(volume: Volume) -> Volume:
    """The same voxels, array axes swapped and one of them reversed."""
    array = volume.array.transpose(0, 3, 1, 2)[:, ::-1]
    swap = np.zeros((4, 4))
    swap[2, 0], swap[0, 1], swap[1, 2], swap[3, 3] = -1, 1, 1, 1
    swap[2, 3] = volume.shape[2] - 1
    return Volume(array, volume.affine @ swap, volume.sources, volume.header)


def test_fractional_holds_the_probabilities(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series", "oblique")
    segmentation = results.result(image)
    wanted = results.probabilities(segmentation)
    segmentation = dataclasses.replace(segmentation, probabilities=wanted)
    path = write_result(segmentation, tmp_path / "out", "dicom-seg", seg_type="fractional")
    seg = highdicom.seg.segread(path)
    assert (seg.SegmentationFractionalType, seg.MaximumFractionalValue) == ("PROBABILITY", 255)
    volume = seg.get_volume(combine_segments=False)
    for channel in range(3):
        got = np.sort(volume.array[..., channel], axis=None)
        np.testing.assert_allclose(
            got, np.sort(wanted.array[channel + 1], axis=None), atol=0.5 / 255 + 1e-6
        )


def test_fractional_without_probabilities_is_refused(tmp_path: Path) -> None:
    segmentation = results.result(results.series(tmp_path / "series"))
    with pytest.raises(OutputError, match="has none"):
        write_result(segmentation, tmp_path / "out", "dicom-seg", seg_type="fractional")
    assert not list(tmp_path.glob("*.dcm"))


def test_probabilities_of_another_table_are_refused(tmp_path: Path) -> None:
    segmentation = results.result(results.series(tmp_path / "series"))
    two = segmentation.label_map.with_array(results.probabilities(segmentation).array[:2])
    segmentation = dataclasses.replace(segmentation, probabilities=two)
    with pytest.raises(OutputError, match="4 channels"):
        write_result(segmentation, tmp_path / "out", "dicom-seg", seg_type="fractional")


def test_regions_overlap_in_a_binary_one_and_are_refused_as_a_label_map(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series")
    segmentation = results.result(image, labels=results.blobs(image.shape))
    segmentation = dataclasses.replace(segmentation, labels=results.REGIONS)
    path = write_result(segmentation, tmp_path / "out", "dicom-seg")
    seg = highdicom.seg.segread(path)
    assert seg.SegmentsOverlap == "YES"
    array = segmentation.label_map.array[0]
    for number, values in ((1, (1, 2, 7)), (2, (2, 7)), (3, (7,))):
        wanted = results.in_space(image, np.isin(array, values))
        np.testing.assert_allclose(_points(seg, number), wanted, atol=2e-3)
    with pytest.raises(OutputError, match="overlap"):
        write_result(segmentation, tmp_path / "map", "dicom-seg", seg_type="labelmap")


@pytest.mark.parametrize("seg_type", SEG_TYPES)
def test_nothing_found_lists_every_segment_with_an_empty_frame(
    tmp_path: Path, seg_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    image = results.series(tmp_path / "series")
    segmentation = results.empty(image)
    zeros = segmentation.label_map.with_array(np.zeros((4, *image.shape), np.float32))
    segmentation = dataclasses.replace(segmentation, probabilities=zeros)
    with caplog.at_level(logging.DEBUG):
        path = write_result(segmentation, tmp_path / "out", "dicom-seg", seg_type=seg_type)
    seg = highdicom.seg.segread(path)
    listed = [s.SegmentLabel for s in seg.SegmentSequence if s.SegmentNumber]
    assert listed == ["Anterior", "Posterior", "odd blob"]
    assert seg.NumberOfFrames == (1 if seg_type == "labelmap" else 3)
    assert not seg.pixel_array.any()
    assert not caplog.records


def test_a_label_that_was_not_found_is_listed(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series")
    labels = results.blobs(image.shape)
    labels[labels == 2] = 0
    path = write_result(results.result(image, labels), tmp_path / "out", "dicom-seg")
    seg = highdicom.seg.segread(path)
    assert [s.segment_label for s in seg.SegmentSequence] == ["Anterior", "Posterior", "odd blob"]
    assert not seg.get_volume(combine_segments=False, segment_numbers=[2]).array.any()


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
def test_references_patient_and_maker(tmp_path: Path, enhanced: bool) -> None:
    image = results.series(tmp_path / "series", enhanced=enhanced)
    source = pydicom.dcmread(image.sources[0])
    planes = image.header["dicom"].stack.planes
    path = write_result(results.result(image), tmp_path / "out", "dicom-seg")
    seg = pydicom.dcmread(path)
    for keyword in (
        "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
        "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID",
    ):  # fmt: skip
        assert seg[keyword].value == source[keyword].value, keyword
    assert seg.SeriesInstanceUID != source.SeriesInstanceUID
    assert (seg.Modality, seg.ManufacturerModelName) == ("SEG", "medseg_nca")
    assert seg.SeriesDescription == "Segmentation hippocampus@3"
    assert list(seg.SoftwareVersions) == ["medseg_nca 0.1.0", "hippocampus@3"]
    named = seg.ReferencedSeriesSequence[0]
    assert named.SeriesInstanceUID == source.SeriesInstanceUID
    listed = {item.ReferencedSOPInstanceUID for item in named.ReferencedInstanceSequence}
    assert listed == {plane.sop_instance_uid for plane in planes}
    for group in seg.PerFrameFunctionalGroupsSequence:
        place = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
        item = group.DerivationImageSequence[0].SourceImageSequence[0]
        near = [np.linalg.norm(np.subtract(place, plane.position)) for plane in planes]
        plane = planes[int(np.argmin(near))]
        assert min(near) < 1e-6
        assert item.ReferencedSOPInstanceUID == plane.sop_instance_uid
        assert item.ReferencedSOPClassUID == source.SOPClassUID
        assert item.get("ReferencedFrameNumber") == (plane.frame + 1 if enhanced else None)


def test_codes_come_from_the_table_and_private_ones_from_the_name(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series")
    first = pydicom.dcmread(write_result(results.result(image), tmp_path / "a", "dicom-seg"))
    again = pydicom.dcmread(write_result(results.result(image), tmp_path / "b", "dicom-seg"))
    types = [s.SegmentedPropertyTypeCodeSequence[0] for s in first.SegmentSequence]
    assert [(t.CodingSchemeDesignator, t.CodeValue) for t in types[:2]] == [("SCT", "5366008")] * 2
    modifiers = [t.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning for t in types[:2]]
    assert modifiers == ["Anterior", "Posterior"]
    assert types[2].CodingSchemeDesignator == "99MEDSEG"
    assert types[2].CodeMeaning == "odd blob"
    assert (
        types[2].CodeValue
        == again.SegmentSequence[2].SegmentedPropertyTypeCodeSequence[0].CodeValue
    )
    assert first.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99MEDSEG"
    names = [s.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning for s in first.SegmentSequence]
    assert names[:2] == ["Anatomical Structure"] * 2
    assert names[2] == "Spatial and Relational Concept"
    colours = {tuple(s.RecommendedDisplayCIELabValue) for s in first.SegmentSequence}
    assert len(colours) == 3
    for segment in first.SegmentSequence:
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert segment.SegmentAlgorithmName == "hippocampus@3"


@pytest.mark.parametrize(
    "tags",
    [
        {"PatientBirthDate": None, "PatientSex": None, "StudyID": None, "AccessionNumber": None},
        {"PatientBirthDate": "1/2/1990", "PatientSex": "female", "PatientAge": "7"},
        {"StudyTime": "morning", "SliceThickness": None, "ReferringPhysicianName": None},
        {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Größe^Jürgen"},
        {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"},
        {"FrameOfReferenceUID": None},
        {"SeriesNumber": None, "PatientID": "x" * 70},
    ],
    ids=["no type 2", "odd values", "odd time", "latin", "japanese", "no frame", "long id"],
)  # fmt: skip
def test_headers_as_real_files_have_them(tmp_path: Path, tags: dict[str, object]) -> None:
    image = results.series(tmp_path / "series", **tags)
    path = write_result(results.result(image), tmp_path / "out", "dicom-seg")
    with quiet():
        seg = pydicom.dcmread(path)
        name = str(seg.PatientName)
    assert (read_seg(path, image).segments[0].mask == (results.blobs(image.shape) == 1)).all()
    if "PatientName" in tags:
        assert name == tags["PatientName"]
    assert seg.PatientSex in ("F", "")
    assert "PatientAge" not in seg or seg.PatientAge.endswith("Y")


def test_results_of_a_series_without_a_frame_of_reference_share_one(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series", FrameOfReferenceUID=None)
    found = {
        pydicom.dcmread(write_result(results.result(image), tmp_path / name, name))[
            "FrameOfReferenceUID"
        ].value
        for name in ("dicom-seg", "rtstruct")
    }
    assert len(found) == 1


def test_orientations_that_differ_in_the_last_digit_are_one(tmp_path: Path) -> None:
    planes = build.classic(build.pixels((7, 21, 18)), build.OBLIQUE, modality="MR")
    for index, plane in enumerate(planes):
        turned = build.orientation(build.OBLIQUE) + index * 1e-7
        plane.ImageOrientationPatient = build.numbers(turned)
    build.write(tmp_path / "series", planes)
    image = read_dicom([tmp_path / "series"])
    path = write_result(results.result(image), tmp_path / "out", "dicom-seg")
    assert (read_seg(path, image).segments[0].mask == (results.blobs(image.shape) == 1)).all()


def test_a_tilted_gantry_gives_a_seg_on_the_upright_grid(tmp_path: Path) -> None:
    affine = build.affine()
    affine[1, 2] = 0.8  # each plane is shifted along its columns
    build.write(tmp_path / "series", build.classic(build.pixels((7, 21, 18)), affine))
    image = read_dicom([tmp_path / "series"])
    assert image.header["dicom"].resampled
    segmentation = results.result(image)
    path = write_result(segmentation, tmp_path / "out", "dicom-seg")
    seg = highdicom.seg.segread(path)
    for number, value in ((1, 1), (2, 2), (3, 7)):
        wanted = results.in_space(image, segmentation.label_map.array[0] == value)
        np.testing.assert_allclose(_points(seg, number), wanted, atol=2e-3)
    assert seg.FrameOfReferenceUID == pydicom.dcmread(image.sources[0]).FrameOfReferenceUID
    for group in seg.PerFrameFunctionalGroupsSequence:
        for item in group.DerivationImageSequence[0].SourceImageSequence:
            assert item.SpatialLocationsPreserved == "NO"


def test_a_picture_without_a_place_in_the_patient(tmp_path: Path) -> None:
    pixels = build.pixels((1, 12, 9), dtype="uint8")
    nowhere = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    planes = build.classic(pixels, modality="OT", FrameOfReferenceUID=None, **nowhere)
    build.write(tmp_path / "series", planes)
    image = read_dicom([tmp_path / "series"])
    assert image.dims == 2
    path = write_result(results.result(image), tmp_path / "out", "dicom-seg")
    seg = highdicom.seg.segread(path)
    frames = seg.get_pixels_by_source_instance([planes[0].SOPInstanceUID])[0]
    for number, value in ((1, 1), (2, 2), (3, 7)):
        wanted = (results.blobs(image.shape) == value).T
        np.testing.assert_array_equal(frames[..., number - 1], wanted)


def test_label_names_that_dicom_cannot_hold(tmp_path: Path) -> None:
    names = ("a\\b" + "x" * 80, " ", "Hüfte 左")
    table = LabelTable(
        labels=tuple(Label(name=n, values=(v,)) for n, v in zip(names, (1, 2, 7), strict=True))
    )
    image = results.series(tmp_path / "series")
    segmentation = dataclasses.replace(results.result(image), labels=table)
    path = write_result(segmentation, tmp_path / "out", "dicom-seg")
    segments = pydicom.dcmread(path).SegmentSequence
    assert [s.SegmentLabel for s in segments] == ["a/b" + "x" * 61, "label 2", "Hüfte 左"]
    codes = [s.SegmentedPropertyTypeCodeSequence[0] for s in segments]
    assert len({c.CodeValue for c in codes}) == 3
    assert all(isinstance(c.CodeMeaning, str) and c.CodeMeaning for c in codes)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series")
    good = results.result(image)
    with pytest.raises(OutputError, match="seg_type"):
        write_result(good, tmp_path / "out", "dicom-seg", seg_type="surface")
    strange = good.label_map.with_array(np.full((1, *image.shape), 5, np.uint8))
    with pytest.raises(OutputError, match="holds 5"):
        write_result(dataclasses.replace(good, label_map=strange), tmp_path / "out", "dicom-seg")
    moved = Volume(good.label_map.array, good.label_map.affine + np.eye(4)[:, [1, 2, 0, 3]])
    with pytest.raises(OutputError, match="another grid"):
        write_result(dataclasses.replace(good, label_map=moved), tmp_path / "out", "dicom-seg")
    nifti = Volume(image.array, image.affine, (Path("case.nii.gz"),))
    with pytest.raises(OutputError, match="did not come from DICOM"):
        write_result(dataclasses.replace(good, image=nifti), tmp_path / "out", "dicom-seg")
    shifted = image.affine.copy()
    shifted[:3, 3] += 5
    off = dataclasses.replace(
        good,
        image=Volume(image.array, shifted, image.sources, image.header),
        label_map=Volume(good.label_map.array, shifted),
    )
    with pytest.raises(OutputError, match="does not lie on the planes"):
        write_result(off, tmp_path / "out", "dicom-seg")
    assert not [p for p in tmp_path.iterdir() if p.is_file()]


def test_a_source_without_a_study_is_refused(tmp_path: Path) -> None:
    segmentation = results.result(results.series(tmp_path / "series", StudyInstanceUID=None))
    with pytest.raises(OutputError, match="no StudyInstanceUID"):
        write_result(segmentation, tmp_path / "case", "dicom-seg")
    assert not list(tmp_path.glob("case*"))


def test_a_source_that_says_not_how_it_was_deidentified(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series", PatientIdentityRemoved="YES")
    path = write_result(results.result(image), tmp_path / "case", "dicom-seg")
    made = pydicom.dcmread(path)
    assert (made.PatientIdentityRemoved, bool(made.DeidentificationMethod)) == ("YES", True)
    assert made.ContentCreatorName == ""


def test_a_source_that_changed_is_refused(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series")
    other = build.classic(build.pixels((7, 21, 18)), build.AXIAL, modality="MR", study="other")
    build.write(tmp_path / "series", other)
    with pytest.raises(OutputError, match="another instance"):
        write_result(results.result(image), tmp_path / "out", "dicom-seg")
