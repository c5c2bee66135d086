"""RT Structure Sets for tests, with contours that are drawn by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from medseg_nca.io.dicom.annotations.labels import Segments
from medseg_nca.io.dicom.annotations.rtstruct import read_rtstruct
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.volume import Volume
from tests.io.dicom.build import OBLIQUE, classic, numbers, pixels, uid
from tests.io.dicom.on_image import image_of, points_lps

SHAPE = (6, 30, 40)  # planes, rows, columns
SERIES = classic(pixels(SHAPE), OBLIQUE)
IMAGE = image_of(SERIES, OBLIQUE)
SQUARE = [(4.5, 4.5), (14.5, 4.5), (14.5, 9.5), (4.5, 9.5)]  # 10 x 5 voxels


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
