"""RTSTRUCT onto the grid of an image: planes, holes, frames of reference, and junk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medseg_nca.config import Code
from medseg_nca.errors import ImageError
from medseg_nca.io.dicom.annotations.labels import Segments
from medseg_nca.io.dicom.annotations.references import referenced_instances, referenced_series
from medseg_nca.io.dicom.annotations.rtstruct import read_rtstruct
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.volume import Volume
from tests.io.dicom.build import AXIAL, OBLIQUE, affine, classic, numbers, pixels, uid
from tests.io.dicom.on_image import image_of, points_lps

SHAPE = (6, 30, 40)  # planes, rows, columns
SERIES = classic(pixels(SHAPE), OBLIQUE)
IMAGE = image_of(SERIES, OBLIQUE)
SQUARE = [(4.5, 4.5), (14.5, 4.5), (14.5, 9.5), (4.5, 9.5)]  # 10 x 5 voxels

Contour = dict[str, Any]


def contour(points: NDArray[Any], kind: str = "CLOSED_PLANAR", **tags: Any) -> Dataset:
    item = Dataset()
    item.ContourGeometricType = kind
    item.NumberOfContourPoints = len(points)
    item.ContourData = numbers(np.asarray(points).ravel())
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return item


def drawn(
    corners: Sequence[tuple[float, float]], z: float, image: Volume = IMAGE, **more: Any
) -> Dataset:
    """A contour by voxel coordinates of an image."""
    return contour(points_lps(image, [(x, y, z) for x, y in corners]), **more)


def circle(x: float, y: float, radius_mm: float, z: float) -> NDArray[np.float64]:
    """A true circle in the plane of a slice, LPS mm."""
    angle = np.arange(360) * np.pi / 180
    across = np.column_stack(
        [np.cos(angle) / IMAGE.spacing[0], np.sin(angle) / IMAGE.spacing[1], angle * 0]
    )
    return points_lps(IMAGE, np.array([(x, y, z)]) + radius_mm * across)


def structures(*rois: Sequence[Dataset], frame: str = "", **tags: Any) -> Dataset:
    """ROIs numbered from 1, each a list of contours."""
    result = Dataset()
    result.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    result.SOPInstanceUID = uid("rtstruct")
    result.Modality = "RTSTRUCT"
    series = Dataset()
    series.SeriesInstanceUID = SERIES[0].SeriesInstanceUID
    study = Dataset()
    study.RTReferencedSeriesSequence = [series]
    reference = Dataset()
    reference.FrameOfReferenceUID = frame or SERIES[0].FrameOfReferenceUID
    reference.RTReferencedStudySequence = [study]
    result.ReferencedFrameOfReferenceSequence = [reference]
    result.StructureSetROISequence, result.ROIContourSequence = [], []
    for number, contours in enumerate(rois, 1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName = number, f"roi {number}"
        roi.ReferencedFrameOfReferenceUID = reference.FrameOfReferenceUID
        roi.ROIGenerationAlgorithm = "MANUAL"
        result.StructureSetROISequence.append(roi)
        item = Dataset()
        item.ReferencedROINumber = number
        item.ContourSequence = list(contours)
        result.ROIContourSequence.append(item)
    for keyword, value in tags.items():
        setattr(result, keyword, value)
    return result


def save(dataset: Dataset, folder: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    path = folder / "rs.dcm"
    file = FileDataset(str(path), dataset, file_meta=meta, preamble=b"\0" * 128)
    file.save_as(path, enforce_file_format=True)
    return path


def read(folder: Path, *rois: Sequence[Dataset], image: Volume = IMAGE) -> Segments:
    return read_rtstruct(save(structures(*rois), folder), image)


def kinds(result: Segments) -> list[str]:
    return [note.kind for note in result.notes]


def refused(path: Path, image: Volume = IMAGE) -> DicomError:
    with pytest.raises(DicomError) as caught:
        read_rtstruct(path, image)
    assert str(path) in str(caught.value)
    return caught.value


# --- geometry -------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_square_on_an_oblique_slice(syntax: str, tmp_path: Path) -> None:
    path = save(structures([drawn(SQUARE, 2), drawn(SQUARE, 3)]), tmp_path, syntax)
    result = read_rtstruct(path, IMAGE)
    (segment,) = result
    expected = np.zeros(IMAGE.shape, bool)
    expected[5:15, 5:10, 2:4] = True
    assert (segment.mask == expected).all()
    assert (segment.number, segment.name, segment.algorithm) == (1, "roi 1", "MANUAL")
    assert segment.code is None
    assert result.notes == ()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_contours_of_many_points(syntax: str, tmp_path: Path) -> None:
    """Long sequences of defined length are no bulk, with or without VRs."""
    side = np.linspace(0, 1, 300)[:, None]
    corners = np.array([*SQUARE, SQUARE[0]])
    dense = np.concatenate([a + side * (b - a) for a, b in pairwise(corners)])
    rois = [[drawn(dense.tolist(), 2)] for _ in range(20)]
    path = save(structures(*rois), tmp_path, syntax)
    assert path.stat().st_size > 500_000
    assert [segment.voxels for segment in read_rtstruct(path, IMAGE)] == [50] * 20


def distance_mm(x: float, y: float) -> NDArray[np.float64]:
    i, j = np.indices(IMAGE.shape[:2])
    return np.hypot((i - x) * IMAGE.spacing[0], (j - y) * IMAGE.spacing[1])


def test_a_disc_and_rings_in_millimetres(tmp_path: Path) -> None:
    outer, hole = circle(18.3, 14.6, 9.1, 1), circle(18.3, 14.6, 4.2, 1)
    keyhole = np.concatenate([outer, outer[:1], hole[:1], hole[::-1], outer[:1]])
    disc, xor, key = read(
        tmp_path, [contour(outer)], [contour(outer), contour(hole)], [contour(keyhole)]
    )
    far = distance_mm(18.3, 14.6)
    assert np.abs(far - 9.1).min() > 1e-3 < np.abs(far - 4.2).min()
    assert (disc.mask[..., 1] == (far < 9.1)).all()
    assert (xor.mask[..., 1] == ((far < 9.1) & (far > 4.2))).all()
    assert (key.mask == xor.mask).all()
    assert disc.voxels == (far < 9.1).sum()
    area = disc.voxels * IMAGE.spacing[0] * IMAGE.spacing[1]
    assert area == pytest.approx(np.pi * 9.1**2, rel=0.02)


def test_the_volume_of_a_ball(tmp_path: Path) -> None:
    lps = affine((0.8, 0.8, 1.0), (5, 6, 7), (30, 20, 10))
    image = image_of(classic(pixels((30, 40, 40)), lps), lps)
    contours = []
    for z in range(30):
        radius = np.sqrt(max(12.0**2 - (z - 14.7) ** 2, 0))
        if radius:
            angle = np.arange(360) * np.pi / 180
            x, y = 19.4 + radius / 0.8 * np.cos(angle), 20.2 + radius / 0.8 * np.sin(angle)
            contours.append(drawn(list(zip(x, y, strict=True)), z, image))
    (ball,) = read(tmp_path, contours, image=image)
    volume = ball.voxels * 0.8 * 0.8
    assert volume == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.01)
    centre = np.argwhere(ball.mask).mean(axis=0)
    assert centre == pytest.approx([19.4, 20.2, 14.7], abs=0.05)


def test_the_array_order_of_the_image_does_not_matter(tmp_path: Path) -> None:
    path = save(structures([drawn(SQUARE, 2)]), tmp_path)
    (known,) = read_rtstruct(path, IMAGE)
    turn = np.eye(4)[:, [1, 0, 2, 3]]  # x and y change places, then x is mirrored
    turn[:, 3] += turn[:, 0] * (IMAGE.shape[1] - 1)
    turn[:, 0] *= -1
    array = IMAGE.array.transpose(0, 2, 1, 3)
    turned = Volume(array, IMAGE.affine @ turn, (), IMAGE.header)
    (segment,) = read_rtstruct(path, turned)
    assert (segment.mask == known.mask.transpose(1, 0, 2)[::-1]).all()


def test_a_2d_image(tmp_path: Path) -> None:
    one = image_of(SERIES[:1], OBLIQUE)
    flat = Volume(one.array[..., 0], one.affine, one.sources, one.header)
    (segment,) = read(tmp_path, [drawn(SQUARE, 0)], image=flat)
    assert segment.shape == (40, 30)
    assert segment.mask[5:15, 5:10].all()
    assert segment.voxels == 50


# --- slices ---------------------------------------------------------------------------------------


def test_a_contour_belongs_to_the_nearest_slice(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(SQUARE, 1.95), drawn(SQUARE, 3.3)])
    assert np.flatnonzero(result.segments[0].mask.any(axis=(0, 1))).tolist() == [2, 3]
    assert kinds(result) == ["off-slice"]
    assert "ROI 1: 1 contours" in result.notes[0].message


def test_half_way_is_not_left_to_rounding(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(SQUARE, z + 0.5) for z in range(4)])
    assert np.flatnonzero(result.segments[0].mask.any(axis=(0, 1))).tolist() == [1, 2, 3, 4]


def test_contours_finer_than_slices_do_not_cancel(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(SQUARE, z) for z in (1.7, 2.02, 2.3)])
    assert result.segments[0].voxels == 50
    assert kinds(result) == ["between-slices"]
    assert " 2 contours" in result.notes[0].message


def test_slices_between_contours_stay_empty_and_are_told(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(SQUARE, 0), drawn(SQUARE, 3)])
    assert np.flatnonzero(result.segments[0].mask.any(axis=(0, 1))).tolist() == [0, 3]
    assert kinds(result) == ["slices-between-contours"]
    assert " 2 slices" in result.notes[0].message


def test_contours_beyond_the_image(tmp_path: Path) -> None:
    away = [(x + 100, y) for x, y in SQUARE]
    outside = [drawn(SQUARE, -0.6), drawn(SQUARE, 5.6), drawn(away, 2)]
    result = read(tmp_path, [*outside, drawn(SQUARE, 1)], outside)
    assert [segment.voxels for segment in result] == [50, 0]
    assert kinds(result) == ["outside-image"] * 2
    assert " 3 contours" in result.notes[0].message
    path = save(structures(outside), tmp_path)
    assert refused(path).problem.kind == "outside-image"


def test_contours_across_the_slices_are_left_out(tmp_path: Path) -> None:
    upright = points_lps(IMAGE, [(5, 5, 0), (15, 5, 0), (15, 5, 4), (5, 5, 4)])
    result = read(tmp_path, [contour(upright), drawn(SQUARE, 1)])
    assert result.segments[0].voxels == 50
    assert kinds(result) == ["not-in-slice"]
    path = save(structures([contour(upright)]), tmp_path)
    assert refused(path).problem.kind == "outside-image"
    assert "not-in-slice" in str(refused(path))


# --- kinds of contours ----------------------------------------------------------------------------


def test_only_closed_contours_have_an_area(tmp_path: Path) -> None:
    point = contour(points_lps(IMAGE, [(5, 5, 1)]), "POINT")
    line = drawn(SQUARE, 1, kind="OPEN_PLANAR")
    result = read(tmp_path, [point], [line, drawn(SQUARE, 1)], [])
    assert [segment.number for segment in result] == [2]
    assert result.segments[0].voxels == 50
    assert [(n.kind, n.message.split("ROI ")[1][0]) for n in result.notes] == [
        ("no-contours", "1"),
        ("not-closed", "1"),
        ("not-closed", "2"),
        ("no-contours", "3"),
    ]
    path = save(structures([point]), tmp_path)
    assert refused(path).problem.kind == "no-contours"


def test_a_contour_that_is_there_twice_does_not_cancel_itself(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(SQUARE, 1), drawn(SQUARE, 1)])
    assert result.segments[0].voxels == 50
    assert kinds(result) == ["repeated-contour"]


INNER = [(7.5, 5.5), (9.5, 5.5), (9.5, 7.5), (7.5, 7.5)]  # 2 x 2 voxels of the square
APART = [(12.5, 7.5), (18.5, 7.5), (18.5, 12.5), (12.5, 12.5)]  # 6 x 5, of which 2 x 2 are its


def test_contours_that_overlap_are_united_and_told(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(SQUARE, 1), drawn(APART, 1)])
    assert result.segments[0].voxels == 50 + 30 - 4
    assert kinds(result) == ["overlapping-contours"]
    assert "ROI 1: 1 contours overlap" in result.notes[0].message
    apart = read(tmp_path, [drawn(SQUARE, 1), drawn(APART, 2)])
    assert apart.segments[0].voxels == 80
    assert kinds(apart) == []


def test_a_contour_within_another_is_a_hole_in_it(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(INNER, 1), drawn(SQUARE, 1)], [drawn(INNER, 1)])
    assert [segment.voxels for segment in result] == [50 - 4, 4]
    assert kinds(result) == []


def test_closed_xor_contours(tmp_path: Path) -> None:
    def xor(*corners: Sequence[tuple[float, float]]) -> list[Dataset]:
        return [drawn(c, 1, kind="CLOSEDPLANAR_XOR") for c in corners]

    assert read(tmp_path, xor(SQUARE, INNER)).segments[0].voxels == 50 - 4
    assert read(tmp_path, xor(SQUARE, APART)).segments[0].voxels == 50 + 30 - 2 * 4
    mixed = read(tmp_path, [drawn(SQUARE, 1), *xor(INNER)])
    assert mixed.segments[0].voxels == 50 - 4


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
@pytest.mark.parametrize("shift_mm", [(0.0, 0.0, 0.0), (0.01, 0.01, 0.0), (0.0, -0.01, 0.005)])
@pytest.mark.parametrize("way", [1, -1])
def test_a_copy_of_a_contour_cancels_nothing(
    kind: str, shift_mm: tuple[float, float, float], way: int, tmp_path: Path
) -> None:
    corners = points_lps(IMAGE, [(x, y, 1) for x, y in SQUARE])
    copy = np.roll(corners, 1, axis=0)[::way] + shift_mm
    result = read(tmp_path, [contour(corners, kind), contour(copy, kind)])
    assert result.segments[0].voxels == 50
    assert kinds(result) == ["repeated-contour"]


def test_a_contour_without_a_centre_in_it(tmp_path: Path) -> None:
    tiny = [(5.1, 5.1), (5.4, 5.1), (5.4, 5.4)]
    result = read(tmp_path, [drawn(tiny, 1)], [drawn(SQUARE, 1)])
    assert [segment.voxels for segment in result] == [0, 50]
    assert kinds(result) == ["empty-segment"]


def test_codes_of_the_observations(tmp_path: Path) -> None:
    dataset = structures([drawn(SQUARE, 1)])
    code = Dataset()
    code.CodingSchemeDesignator, code.CodeValue, code.CodeMeaning = "SRT", "T-62000", "Liver"
    observation = Dataset()
    observation.ReferencedROINumber = 1
    observation.RTROIIdentificationCodeSequence = [code]
    dataset.RTROIObservationsSequence = [observation]
    (segment,) = read_rtstruct(save(dataset, tmp_path), IMAGE)
    assert segment.code == Code(scheme="SCT", value="10200004", meaning="Liver")


# --- references -----------------------------------------------------------------------------------


def test_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    path = save(structures([drawn(SQUARE, 1)], frame="1.2.3"), tmp_path)
    assert refused(path).problem.kind == "other-frame-of-reference"


def test_single_rois_of_another_frame_of_reference_are_left_out(tmp_path: Path) -> None:
    dataset = structures([drawn(SQUARE, 1)], [drawn(SQUARE, 2)])
    dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"
    result = read_rtstruct(save(dataset, tmp_path), IMAGE)
    assert [segment.number for segment in result] == [2]
    assert kinds(result) == ["other-frame-of-reference"]
    assert "ROI 1 " in result.notes[0].message


def test_a_roi_without_one_has_that_of_the_file(tmp_path: Path) -> None:
    dataset = structures([drawn(SQUARE, 1)])
    del dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID
    assert kinds(read_rtstruct(save(dataset, tmp_path), IMAGE)) == []
    del dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID
    assert kinds(read_rtstruct(save(dataset, tmp_path), IMAGE)) == ["no-frame-of-reference"]


def test_what_it_refers_to() -> None:
    image_item = Dataset()
    image_item.ReferencedSOPInstanceUID = SERIES[3].SOPInstanceUID
    dataset = structures([drawn(SQUARE, 1, ContourImageSequence=[image_item])])
    assert referenced_series(dataset) == SERIES[0].SeriesInstanceUID
    assert referenced_instances(dataset) == {SERIES[3].SOPInstanceUID}


def test_the_image_must_be_from_dicom(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not read from DICOM"):
        read_rtstruct(tmp_path / "x.dcm", Volume(np.zeros((1, 2, 2, 2)), np.eye(4)))


# --- hostile and broken ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"1\\2\\x\\4\\5\\6\\7\\8\\9",
        b"1\\2\\nan\\4\\5\\6\\7\\8\\9",
        b"1\\2\\inf\\4\\5\\6\\7\\8\\9",
        b"1\\2\\1e300\\4\\5\\6\\7\\8\\9",
        b"1\\2\\3\\4\\5\\6\\7\\8",
        b"1\\2\\3\\4\\5\\6",
        b"1,5\\2\\3\\4\\5\\6\\7\\8\\9",
        b"\\\\\\\\\\\\\\\\",
        b"",
    ],
)
def test_junk_coordinates_are_left_out_by_roi_number(text: bytes, tmp_path: Path) -> None:
    marker = b"7.125\\7.25\\7.375"
    junk = contour(np.array([[7.125, 7.25, 7.375]]))
    path = save(structures([drawn(SQUARE, 1)], [junk, drawn(SQUARE, 2)]), tmp_path)
    data = path.read_bytes()
    assert data.count(marker) == 1
    result = read_rtstruct(_replaced(path, data, marker, text), IMAGE)
    assert [segment.voxels for segment in result] == [50, 50]
    assert ("bad-contour", True) in [(n.kind, "ROI 2" in n.message) for n in result.notes]


def _replaced(path: Path, data: bytes, marker: bytes, text: bytes) -> Path:
    """A ContourData value in the file, whose lengths are all defined, is made another one."""
    import io

    import pydicom
    from pydicom import config
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    dataset = pydicom.dcmread(io.BytesIO(data))
    item = dataset.ROIContourSequence[1].ContourSequence[0]
    item._dict[Tag("ContourData")] = RawDataElement(
        Tag("ContourData"), "DS", len(text), text + b" " * (len(text) % 2), 0, False, True
    )
    mode = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    try:
        dataset.save_as(path)
    finally:
        config.settings.writing_validation_mode = mode
    return path


def test_a_wrong_number_of_points_is_told(tmp_path: Path) -> None:
    result = read(tmp_path, [drawn(SQUARE, 1, NumberOfContourPoints=9)])
    assert result.segments[0].voxels == 50
    assert kinds(result) == ["point-count"]


def _twins(d: Dataset) -> None:
    d.StructureSetROISequence[1].ROINumber = 1


def _no_number(d: Dataset) -> None:
    del d.ROIContourSequence[0].ReferencedROINumber


def _no_rois(d: Dataset) -> None:
    d.StructureSetROISequence = []


def _image(d: Dataset) -> None:
    d.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (_twins, "damaged"),
        (_no_number, "damaged"),
        (_no_rois, "no-contours"),
        (_image, "not-a-structure-set"),
    ],
)
def test_broken_objects_are_refused(
    damage: Callable[[Dataset], None], kind: str, tmp_path: Path
) -> None:
    dataset = structures([drawn(SQUARE, 1)], [drawn(SQUARE, 2)])
    damage(dataset)
    assert refused(save(dataset, tmp_path)).problem.kind == kind


def test_hundreds_of_odd_contours_give_one_note(tmp_path: Path) -> None:
    far = [drawn(SQUARE, -3 - n) for n in range(500)]
    result = read(tmp_path, [drawn(SQUARE, 1), *far])
    assert kinds(result) == ["outside-image"]


def test_names_of_the_file_are_not_in_messages(tmp_path: Path) -> None:
    dataset = structures([drawn(SQUARE, -3)], [drawn(SQUARE, 1)])
    dataset.StructureSetROISequence[0].ROIName = "Zorrofake"
    result = read_rtstruct(save(dataset, tmp_path), IMAGE)
    assert result.notes
    assert "Zorrofake" not in "".join(note.message for note in result.notes)


@pytest.mark.parametrize("seed", range(6))
def test_any_cut_or_changed_file_is_read_or_refused(seed: int, tmp_path: Path) -> None:
    image = image_of(classic(pixels(SHAPE), AXIAL), AXIAL)
    path = save(structures([drawn(SQUARE, z, image) for z in range(4)]), tmp_path)
    whole = path.read_bytes()
    generator = np.random.default_rng(seed)
    for _ in range(25):
        data = bytearray(whole)
        for place in generator.integers(132, len(data), 4):
            data[place] = generator.integers(256)
        path.write_bytes(bytes(data[: generator.integers(1, len(data) + 1)]))
        with contextlib.suppress(DicomError):
            read_rtstruct(path, image)


def test_a_file_of_pydicom_is_understood(tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    path = Path(str(get_testdata_file("rtstruct.dcm")))
    lps = affine((10, 10, 10), (-255, -205, -210))
    series = classic(
        pixels((6, 42, 52)), lps, FrameOfReferenceUID="1.2.826.0.1.3680043.8.498.2010020400001.2"
    )
    result = read_rtstruct(path, image_of(series, lps))
    (patient,) = result  # two isocentres are points
    assert patient.name == "patient"
    assert patient.voxels == 40 * 30 * 3  # 400 x 300 mm on three slices
