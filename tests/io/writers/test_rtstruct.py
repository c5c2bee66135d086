"""Structure sets: outlines that give the mask back, and agree with what they refer to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg_nca.errors import OutputError
from medseg_nca.io.dicom.annotations.rtstruct import read_rtstruct
from medseg_nca.io.dicom.objects.contours import outlines
from medseg_nca.io.dicom.read import read_dicom
from medseg_nca.io.write import write_result
from tests.io.dicom import build
from tests.io.writers import results


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("kind", results.KINDS)
def test_it_comes_back_as_the_same_label_map(tmp_path: Path, kind: str, enhanced: bool) -> None:
    image = results.series(tmp_path / "series", kind, enhanced=enhanced)
    segmentation = results.result(image)
    path = write_result(segmentation, tmp_path / "out", "rtstruct")
    regions = {s.number: s for s in read_rtstruct(path, image).segments}
    for number, value in ((1, 1), (2, 2), (3, 7)):
        assert (regions[number].mask == (segmentation.label_map.array[0] == value)).all()
    assert [regions[n].name for n in (1, 2, 3)] == ["Anterior", "Posterior", "odd blob"]
    assert regions[1].code == results.HIPPOCAMPUS
    assert regions[1].concept.modifiers == (results.ANTERIOR,)


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
def test_contours_lie_on_the_images_that_they_name(tmp_path: Path, enhanced: bool) -> None:
    image = results.series(tmp_path / "series", "oblique", enhanced=enhanced)
    planes = image.header["dicom"].stack.planes
    source = pydicom.dcmread(image.sources[0])
    dataset = pydicom.dcmread(write_result(results.result(image), tmp_path / "out", "rtstruct"))
    assert dataset.PatientID == source.PatientID
    assert dataset.StudyInstanceUID == source.StudyInstanceUID
    assert dataset.FrameOfReferenceUID == source.FrameOfReferenceUID
    frame = dataset.ReferencedFrameOfReferenceSequence[0]
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    listed = {item.ReferencedSOPInstanceUID for item in series.ContourImageSequence}
    assert listed == {plane.sop_instance_uid for plane in planes}
    row, column = np.array(planes[0].row), np.array(planes[0].column)
    normal = np.cross(row, column)
    for roi in dataset.ROIContourSequence:
        for contour in roi.ContourSequence:
            item = contour.ContourImageSequence[0]
            (plane,) = [
                p
                for p in planes
                if p.sop_instance_uid == item.ReferencedSOPInstanceUID
                and (not enhanced or p.frame + 1 == item.ReferencedFrameNumber)
            ]
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints >= 4
            assert np.abs((points - plane.position) @ normal).max() < 1e-3
            inside = (points - plane.position) @ np.stack([row, column], axis=1)
            assert inside.min() > -2
            assert inside.max() < 25


def test_numbers_fit_into_decimal_strings(tmp_path: Path) -> None:
    affine = build.affine(spacing=(1 / 3, 2 / 7, 1 / 7), origin=(-1234.567891, 987.65432, 1e4 / 3))
    build.write(tmp_path / "series", build.classic(build.pixels((4, 9, 8)), affine))
    image = read_dicom([tmp_path / "series"])
    path = write_result(results.result(image), tmp_path / "out", "rtstruct")
    dataset = pydicom.dcmread(path)
    for roi in dataset.ROIContourSequence:
        for contour in roi.get("ContourSequence", ()):
            assert max(len(v.original_string) for v in contour.ContourData) <= 16
    for region in read_rtstruct(path, image).segments:
        value = results.TABLE.labels[region.number - 1].values[0]
        assert (region.mask == (results.blobs(image.shape) == value)).all()


def test_a_contour_of_more_than_64_kilobytes(tmp_path: Path) -> None:
    build.write(tmp_path / "series", build.classic(build.pixels((1, 900, 40)), build.OBLIQUE))
    image = read_dicom([tmp_path / "series"])
    rows, columns = np.indices(image.shape[:2])  # of the array: x, y
    comb = ((columns % 2 == 0) | (rows == 0)).astype(np.uint8)[..., None]
    path = write_result(results.result(image, comb), tmp_path / "out", "rtstruct")
    (contour,) = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence
    assert sum(len(v.original_string) + 1 for v in contour.ContourData) > 2**16
    assert contour["ContourData"].VR == "DS"
    (region,) = read_rtstruct(path, image).segments[:1]
    assert (region.mask == (comb == 1)).all()


def test_a_label_that_was_not_found_is_a_region_without_contours(tmp_path: Path) -> None:
    image = results.series(tmp_path / "series")
    dataset = pydicom.dcmread(write_result(results.empty(image), tmp_path / "out", "rtstruct"))
    assert len(dataset.StructureSetROISequence) == len(dataset.ROIContourSequence) == 3
    assert not any("ContourSequence" in roi for roi in dataset.ROIContourSequence)
    kinds = [item.RTROIInterpretedType for item in dataset.RTROIObservationsSequence]
    assert kinds == ["ORGAN", "ORGAN", ""]
    assert {roi.ROIGenerationAlgorithm for roi in dataset.StructureSetROISequence} == {"AUTOMATIC"}
    assert len({tuple(roi.ROIDisplayColor) for roi in dataset.ROIContourSequence}) == 3


def test_a_tilted_gantry_gives_contours_on_the_upright_grid(tmp_path: Path) -> None:
    affine = build.affine()
    affine[1, 2] = 0.8
    build.write(tmp_path / "series", build.classic(build.pixels((7, 21, 18)), affine))
    image = read_dicom([tmp_path / "series"])
    path = write_result(results.result(image), tmp_path / "out", "rtstruct")
    for region in read_rtstruct(path, image).segments:
        value = results.TABLE.labels[region.number - 1].values[0]
        assert (region.mask == (results.blobs(image.shape) == value)).all()


def test_a_picture_without_a_place_in_the_patient_is_refused(tmp_path: Path) -> None:
    nowhere = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    pixels = build.pixels((1, 12, 9), dtype="uint8")
    build.write(tmp_path / "series", build.classic(pixels, modality="OT", **nowhere))
    image = read_dicom([tmp_path / "series"])
    with pytest.raises(OutputError, match="no place in the patient"):
        write_result(results.result(image), tmp_path / "out", "rtstruct")


def _fill(polygons: list[np.ndarray], shape: tuple[int, int], union: bool) -> np.ndarray:
    """Voxel centres inside polygons, by crossings; polygons united, or combined by XOR."""
    rows, columns = np.indices(shape)
    filled = np.zeros(shape, bool)
    for polygon in polygons:
        inside = np.zeros(shape, bool)
        for (r0, c0), (r1, c1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if r0 != r1:
                crossing = c0 + (rows - r0) / (r1 - r0) * (c1 - c0)
                inside ^= ((r0 > rows) != (r1 > rows)) & (columns < crossing)
        filled = filled | inside if union else filled ^ inside
    return filled


@pytest.mark.parametrize("union", [False, True], ids=["xor", "union"])
def test_outlines_give_any_mask_back_to_readers_of_both_kinds(union: bool) -> None:
    random = np.random.default_rng(0)
    for _ in range(150):
        shape = tuple(random.integers(1, 13, 2))
        mask = random.random(shape) < random.random()
        assert (_fill(outlines(mask), shape, union) == mask).all()


def test_holes_in_holes_are_one_polygon_each() -> None:
    mask = np.zeros((11, 11), bool)
    mask[1:10, 1:10] = True
    mask[3:8, 3:8] = False
    mask[5, 5] = True
    assert len(outlines(mask)) == 2  # the ring with its keyhole, and the island
    assert outlines(np.zeros((4, 4), bool)) == []
    (square,) = outlines(np.ones((3, 5), bool))
    assert len(square) == 8  # four sides and four corners cut at half a voxel
