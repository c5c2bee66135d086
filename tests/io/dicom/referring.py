"""SEG and RTSTRUCT objects that refer to images of :mod:`build`, as other software writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage

from tests.io.dicom.build import number, uid

LIVER = ("SCT", "10200004", "Liver")
ORGAN = ("SCT", "123037004", "Anatomical Structure")


def seg(
    sources: Sequence[Dataset],
    masks: NDArray[Any],
    *,
    names: Sequence[str] = ("Liver",),
    codes: Sequence[tuple[str, str, str]] = (LIVER,),
    kind: str = "BINARY",
    series: str = "seg",
    **tags: Any,
) -> Dataset:
    """A SEG by highdicom.

    Args:
        sources: single-frame instances that ``masks`` lies on.
        masks: ``(planes, rows, columns, segments)`` 0 or 1.
        names: SegmentLabel of each segment.
        codes: of each segment: scheme, value, meaning.
        kind: BINARY, FRACTIONAL or LABELMAP.
        series: other names give another SeriesInstanceUID.
        **tags: set afterwards.
    """
    import highdicom as hd
    from highdicom.sr.coding import CodedConcept

    def concept(code: tuple[str, str, str]) -> Any:
        return CodedConcept(value=code[1], scheme_designator=code[0], meaning=code[2])

    algorithm = hd.AlgorithmIdentificationSequence(
        name="builder", version="1", family=concept(("DCM", "123109", "Manual Processing"))
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=index,
            segment_label=name,
            segmented_property_category=concept(ORGAN),
            segmented_property_type=concept(code),
            algorithm_type="SEMIAUTOMATIC",
            algorithm_identification=algorithm,
        )
        for index, (name, code) in enumerate(zip(names, codes, strict=True), start=1)
    ]
    result = hd.seg.Segmentation(
        source_images=list(sources),
        pixel_array=masks.astype(np.uint8),
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=uid(sources[0].StudyInstanceUID, series),
        series_number=100,
        sop_instance_uid=uid(sources[0].StudyInstanceUID, series, "instance"),
        instance_number=1,
        manufacturer="Builder",
        manufacturer_model_name="Synthetic",
        software_versions="1",
        device_serial_number="1",
        content_creator_name="Fakereaderzq^Con",
        omit_empty_frames=False,
    )
    for keyword, value in tags.items():
        setattr(result, keyword, value)
    return result


def rtstruct(
    sources: Sequence[Dataset],
    contours: dict[str, list[tuple[int, NDArray[np.float64]]]],
    *,
    series: str = "rtstruct",
    **tags: Any,
) -> Dataset:
    """An RTSTRUCT.

    Args:
        sources: single-frame instances.
        contours: by ROI name: plane index, ``(n, 3)`` points in LPS mm.
        series: other names give another SeriesInstanceUID.
        **tags: set afterwards.
    """
    first = sources[0]
    result = Dataset()
    for keyword in ("SpecificCharacterSet", "StudyInstanceUID", "PatientName", "PatientID",
                    "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
                    "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
                    "PositionReferenceIndicator"):  # fmt: skip
        if keyword in first:
            setattr(result, keyword, first.get(keyword))
    result.SOPClassUID = RTStructureSetStorage
    result.SOPInstanceUID = uid(first.StudyInstanceUID, series, "instance")
    result.SeriesInstanceUID = uid(first.StudyInstanceUID, series)
    result.SeriesNumber, result.InstanceNumber = 200, 1
    result.Modality, result.Manufacturer = "RTSTRUCT", "Builder"
    result.StructureSetLabel = "Zorrofake plan"
    result.StructureSetDate, result.StructureSetTime = "20200102", "101112"
    result.ReferencedFrameOfReferenceSequence = [_frame(sources)]
    result.StructureSetROISequence = []
    result.ROIContourSequence = []
    result.RTROIObservationsSequence = []
    for index, (name, planes) in enumerate(contours.items(), start=1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName = index, name
        roi.ReferencedFrameOfReferenceUID = first.FrameOfReferenceUID
        roi.ROIGenerationAlgorithm = "MANUAL"
        result.StructureSetROISequence.append(roi)
        drawn = Dataset()
        drawn.ReferencedROINumber = index
        drawn.ContourSequence = [_contour(sources[plane], points) for plane, points in planes]
        result.ROIContourSequence.append(drawn)
        observation = Dataset()
        observation.ObservationNumber = observation.ReferencedROINumber = index
        observation.ROIObservationLabel = "By Fakedoctorzq"
        observation.RTROIInterpretedType, observation.ROIInterpreter = "ORGAN", "Fakedoctorzq^Ref"
        result.RTROIObservationsSequence.append(observation)
    for keyword, value in tags.items():
        setattr(result, keyword, value)
    return result


def square(affine_lps: NDArray[np.float64], plane: int, low: float, high: float) -> NDArray[Any]:
    """The corners of a square in a plane, from ``low`` to ``high`` columns and rows, LPS mm."""
    corners = [(low, low), (high, low), (high, high), (low, high)]
    return np.array([(affine_lps @ (x, y, plane, 1))[:3] for x, y in corners])


def _frame(sources: Sequence[Dataset]) -> Dataset:
    images = [_reference(source) for source in sources]
    series = Dataset()
    series.SeriesInstanceUID = sources[0].SeriesInstanceUID
    series.ContourImageSequence = images
    study = Dataset()
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = sources[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = sources[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _contour(source: Dataset, points: NDArray[np.float64]) -> Dataset:
    contour = Dataset()
    contour.ContourImageSequence = [_reference(source)]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(points)
    contour.ContourData = [number(value) for value in points.ravel()]
    return contour


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item
