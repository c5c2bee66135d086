"""RT Structure Set (PS3.3 A.19): one region of interest per label, outlined plane by plane.

Outlines lie halfway between voxel centres, holes are cut by keyholes (see
:mod:`medseg_nca.io.dicom.objects.contours`). A label without a voxel is a region without contours.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg_nca.config.labels import Label
from medseg_nca.errors import OutputError
from medseg_nca.io.dicom.objects.codes import ANATOMICAL_STRUCTURE, category, coded, colour, concept
from medseg_nca.io.dicom.objects.contours import Polygon, outlines
from medseg_nca.io.dicom.objects.instance import new_instance, save
from medseg_nca.io.dicom.objects.segments import check_segmentation, display_name, label_mask
from medseg_nca.io.dicom.objects.source import (
    SourceImages,
    reference_item,
    signature,
    source_images,
)
from medseg_nca.io.dicom.objects.values import SHORT, decimals, digits_for, quiet_writing, text
from medseg_nca.io.segmentation import Segmentation
from medseg_nca.io.writers.base import ResultWriter

if TYPE_CHECKING:
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset

_CONTOUR_DATA = 0x30060050


def write_rtstruct(segmentation: Segmentation, path: Path) -> None:
    """Write a structure set.

    Raises:
        OutputError: if the image did not come from DICOM, or is a picture without a place in the
            patient.
    """
    check_segmentation(segmentation)
    source = source_images(segmentation.image, kind="rtstruct")
    if source.source.stack.planes[0].position is None:
        raise OutputError(
            f"{source.source.stack.planes[0].path}: has no place in the patient; a structure set "
            "holds positions in mm.",
            hint="Write it as dicom-seg or sc.",
        )
    with quiet_writing():
        # A contour of 2000 points does not fit into the 64 kB of a DS in explicit VR.
        save(_build(segmentation, source), path, implicit=True)


def _build(segmentation: Segmentation, source: SourceImages) -> Dataset:
    from pydicom.uid import RTStructureSetStorage

    dataset = new_instance(source, segmentation, RTStructureSetStorage, "rtstruct")
    dataset.Modality = "RTSTRUCT"
    dataset.OperatorsName = ""
    dataset.StructureSetLabel = text(segmentation.algorithm.name, SHORT) or "segmentation"
    dataset.StructureSetName = signature(segmentation.algorithm)
    now = datetime.datetime.now()
    dataset.StructureSetDate, dataset.StructureSetTime = (
        now.strftime("%Y%m%d"),
        now.strftime("%H%M%S"),
    )
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.FrameOfReferenceUID = source.frame_of_reference
    dataset.PositionReferenceIndicator = source.header.get("PositionReferenceIndicator", "")
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_frame(source)]
    labels = list(enumerate(segmentation.labels.labels, 1))
    dataset.StructureSetROISequence = [_roi(n, v, segmentation, source) for n, v in labels]
    dataset.ROIContourSequence = [_contours(n, v, segmentation, source) for n, v in labels]
    dataset.RTROIObservationsSequence = [_observation(n, v) for n, v in labels]
    return dataset


def _referenced_frame(source: SourceImages) -> Dataset:
    from pydicom.dataset import Dataset

    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.source.series_uid
    series.ContourImageSequence = [reference_item(r) for r in source.instances]
    # The standard asks for the retired class of detached study management here.
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = source.source.study_uid
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = source.frame_of_reference
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(number: int, label: Label, segmentation: Segmentation, source: SourceImages) -> Dataset:
    from pydicom.dataset import Dataset

    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = source.frame_of_reference
    roi.ROIName = display_name(label, number)
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    roi.ROIGenerationDescription = signature(segmentation.algorithm)
    return roi


def _contours(
    number: int, label: Label, segmentation: Segmentation, source: SourceImages
) -> Dataset:
    from pydicom.dataset import Dataset

    roi = Dataset()
    roi.ROIDisplayColor = list(colour(number - 1))
    roi.ReferencedROINumber = number
    frames = source.grid.frames(label_mask(segmentation, label))
    found = [
        _contour(data, plane, source)
        for plane, mask in enumerate(frames)
        if mask.any()
        for data in _in_patient(outlines(mask), plane, source)
    ]
    for index, contour in enumerate(found, 1):
        contour.ContourNumber = index
    if found:
        roi.ContourSequence = found
    return roi


def _in_patient(polygons: list[Polygon], plane: int, source: SourceImages) -> Iterator[list[str]]:
    """Points as decimal strings x, y, z, x, ... in LPS mm, exact to a thousandth of a voxel."""
    grid = source.grid
    steps = np.stack([grid.column * grid.spacing[0], grid.row * grid.spacing[1]])
    digits = digits_for(min(*grid.spacing, grid.thickness))
    for polygon in polygons:
        points = grid.positions[plane] + polygon @ steps
        yield decimals(points.ravel().tolist(), digits)


def _contour(data: list[str], plane: int, source: SourceImages) -> Dataset:
    from pydicom.charset import default_encoding
    from pydicom.dataset import Dataset

    contour = Dataset()
    if source.grid.on_source:
        contour.ContourImageSequence = [reference_item(source.references[plane])]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(data) // 3
    contour[_CONTOUR_DATA] = _raw(data)
    # As if it had been read in the encoding of the file: pydicom then writes it as it is.
    contour.set_original_encoding(True, True, default_encoding)
    return contour


def _raw(data: list[str]) -> RawDataElement:
    """The points as they are written: pydicom would make an object of each number first."""
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    value = "\\".join(data).encode("ascii")
    value += b" " * (len(value) % 2)
    return RawDataElement(Tag(_CONTOUR_DATA), "DS", len(value), value, 0, True, True)


def _observation(number: int, label: Label) -> Dataset:
    from pydicom.dataset import Dataset

    code = coded(label)
    item = Dataset()
    item.ObservationNumber = number
    item.ReferencedROINumber = number
    item.RTROIInterpretedType = "ORGAN" if category(code) == ANATOMICAL_STRUCTURE else ""
    item.ROIInterpreter = ""
    identification: Any = concept(code)
    if label.modifier is not None:
        identification.SegmentedPropertyTypeModifierCodeSequence = [concept(label.modifier)]
    item.RTROIIdentificationCodeSequence = [identification]
    return item


WRITER = ResultWriter(".rtstruct.dcm", write_rtstruct)
