"""Rules for structure sets, reports and secondary captures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from medseg_nca.io.dicom.check.codes import code_rules
from medseg_nca.io.dicom.check.rules import ObjectFinding, error, walk, warning

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def rtstruct_rules(dataset: Dataset) -> Iterator[ObjectFinding]:
    """Regions, contours, frames of reference and images agree (PS3.3 C.8.8.5, C.8.8.6)."""
    rois = dataset.get("StructureSetROISequence") or []
    numbers = [int(roi.ROINumber) for roi in rois]
    if len(set(numbers)) != len(numbers):
        twice = [n for n, count in Counter(numbers).items() if count > 1]
        yield error(f"ROI numbers are used twice: {twice}")
    frames = {
        str(item.FrameOfReferenceUID)
        for item in dataset.get("ReferencedFrameOfReferenceSequence") or []
    }
    for roi in rois:
        if str(roi.get("ReferencedFrameOfReferenceUID", "")) not in frames:
            yield error(f"ROI {roi.ROINumber}: lies in a frame of reference that is not listed")
    images = {
        str(item.ReferencedSOPInstanceUID)
        for element in walk(dataset)
        if element.keyword == "RTReferencedSeriesSequence"
        for series in element.value
        for item in series.get("ContourImageSequence") or []
    }
    if not images:
        yield warning("it does not say which images it was made from")
    for group in dataset.get("ROIContourSequence") or []:
        number = int(group.ReferencedROINumber)
        if number not in numbers:
            yield error(f"there are contours of ROI {number}, which is not listed")
        for contour in group.get("ContourSequence") or []:
            yield from _contour(contour, number, images)
    for item in dataset.get("RTROIObservationsSequence") or []:
        if int(item.ReferencedROINumber) not in numbers:
            yield error(f"ROI {item.ReferencedROINumber} is observed, but not listed")
        for code in item.get("RTROIIdentificationCodeSequence") or []:
            yield from code_rules(code, f"ROI {item.ReferencedROINumber}")


def _contour(contour: Dataset, number: int, images: set[str]) -> Iterator[ObjectFinding]:
    data = contour.get("ContourData") or []
    points = int(contour.get("NumberOfContourPoints") or 0)
    if len(data) != 3 * points:
        yield error(f"ROI {number}: a contour does not have as many points as it says")
    if str(contour.get("ContourGeometricType", "")).startswith("CLOSED") and points < 3:
        yield error(f"ROI {number}: a closed contour has fewer than three points")
    if not all(math.isfinite(float(value)) for value in data):
        yield error(f"ROI {number}: a contour holds what is no number")
    for item in contour.get("ContourImageSequence") or []:
        if images and str(item.ReferencedSOPInstanceUID) not in images:
            yield error(f"ROI {number}: a contour lies on an image that is not listed")


def sr_rules(dataset: Dataset) -> Iterator[ObjectFinding]:
    """What the content refers to is listed as evidence, and numbers are numbers (PS3.3 C.17)."""
    listed: set[str] = set()
    for keyword in (
        "CurrentRequestedProcedureEvidenceSequence",
        "PertinentOtherEvidenceSequence",
    ):
        for study in dataset.get(keyword) or []:
            for series in study.get("ReferencedSeriesSequence") or []:
                for item in series.get("ReferencedSOPSequence") or []:
                    listed.add(str(item.ReferencedSOPInstanceUID))
    content = dataset.get("ContentSequence") or []
    if not content:
        yield error("the report has no content")
    for item in _content(content):
        for reference in item.get("ReferencedSOPSequence") or []:
            if str(reference.ReferencedSOPInstanceUID) not in listed:
                yield error("the content refers to an instance that is not listed as evidence")
        for measured in item.get("MeasuredValueSequence") or []:
            if not math.isfinite(float(measured.NumericValue)):
                yield error("a measurement is no number")
        for code in item.get("ConceptCodeSequence") or []:
            yield from code_rules(code, "a content item")


def _content(items: Any) -> Iterator[Dataset]:
    for item in items:
        yield item
        yield from _content(item.get("ContentSequence") or [])


def sc_rules(dataset: Dataset) -> Iterator[ObjectFinding]:
    """Pixels are described, and whether they name a patient (PS3.3 C.8.6.2)."""
    if not dataset.get("BurnedInAnnotation"):
        yield warning("it does not say whether its pixels name the patient (BurnedInAnnotation)")
    elif dataset.BurnedInAnnotation == "YES":
        yield warning("its pixels name the patient (BurnedInAnnotation is YES)")
    if dataset.get("PhotometricInterpretation") == "RGB" and dataset.get("SamplesPerPixel") != 3:
        yield error("an RGB picture has three samples a pixel")
