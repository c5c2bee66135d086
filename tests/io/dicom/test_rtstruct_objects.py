"""What an RT Structure Set refers to and calls its regions, and sets that are broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medseg_nca.config import Code
from medseg_nca.errors import ImageError
from medseg_nca.io.dicom.annotations.references import referenced_instances, referenced_series
from medseg_nca.io.dicom.annotations.rtstruct import read_rtstruct
from medseg_nca.io.volume import Volume
from tests.io.dicom.build import AXIAL, affine, classic, pixels
from tests.io.dicom.contours import (
    IMAGE,
    SERIES,
    SHAPE,
    SQUARE,
    contour,
    drawn,
    kinds,
    read,
    refused,
    save,
    structures,
)
from tests.io.dicom.damaged import read_damaged
from tests.io.dicom.on_image import image_of


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
    item[Tag("ContourData")] = RawDataElement(
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
    read_damaged(path, seed, lambda: read_rtstruct(path, image))


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
