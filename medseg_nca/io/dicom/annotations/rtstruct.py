"""Read radiotherapy structure sets onto the grid of an image (PS3.3 A.19, C.8.8.5, C.8.8.6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.dicom.annotations.concepts import (
    Concept,
    clean_name,
    read_codes,
    read_concept,
)
from medseg_nca.io.dicom.annotations.labels import Segment, Segments
from medseg_nca.io.dicom.annotations.references import (
    check_frame_of_reference,
    image_source,
    parsing,
    referenced_series,
    refers_to,
    unnamed_image,
)
from medseg_nca.io.dicom.annotations.slices import Contour, Findings, fill_slices
from medseg_nca.io.dicom.files.attributes import Attributes, items
from medseg_nca.io.dicom.files.classes import RT_STRUCTURE_SET
from medseg_nca.io.dicom.files.reader import read_file
from medseg_nca.io.dicom.problems import DicomError, damaged, refusal
from medseg_nca.io.dicom.records import Problem, Source
from medseg_nca.io.volume import OnGrid

if TYPE_CHECKING:
    from pydicom import Dataset

_XOR = "CLOSEDPLANAR_XOR"
_CLOSED = ("CLOSED_PLANAR", _XOR)

_TYPES = "RTROIIdentificationCodeSequence"
_FAR = 1e6
_PLAIN = b"0123456789+-.eE\\ "


@dataclass(frozen=True)
class Roi:
    """One region of interest: what it is called, and its contour items."""

    number: int
    concept: Concept
    algorithm: str
    frame_of_reference: str
    contours: tuple[Dataset, ...]


def read_rtstruct(path: Path, image: OnGrid) -> Segments:
    """Read the regions of interest of an RTSTRUCT as masks.

    A voxel belongs to a ROI if its centre lies inside the ROI's closed contours on the nearest
    slice. Each is filled by the even-odd rule, so the inner part of a keyhole is a hole; a contour
    that lies inside another is a hole in it, others are united, and CLOSEDPLANAR_XOR ones are
    combined by XOR (:mod:`medseg_nca.io.dicom.annotations.nesting`). A centre on a contour (within
    0.001 voxels) is inside. A contour belongs to the nearest slice; of several planes at one slice
    the nearest counts. Nothing is interpolated between slices. ROIs without closed contours are
    left out. The notes say what was left out.

    Args:
        path: the file.
        image: read from DICOM; gives grid and frame of reference. Its third axis counts slices.

    Raises:
        DicomError: if the file cannot be read; ``not-a-structure-set``, ``damaged``,
            ``other-frame-of-reference`` (of all ROIs), ``no-contours``, ``outside-image``.
        ImageError: if the image did not come from DICOM.
    """
    source = image_source(image)
    path = Path(path)
    dataset = read_file(path)
    findings = Findings(path)
    with parsing(path):
        if Attributes(dataset).text("SOPClassUID") != RT_STRUCTURE_SET:
            raise refusal("not-a-structure-set", path, "is no DICOM RT structure set.")
        rois = find_rois(path, dataset)
        rois, notes = _in_frame(path, rois, source, refers=refers_to(dataset, source))
        notes += unnamed_image(path, dataset)
        contours = {roi.number: _closed_contours(roi, findings) for roi in rois}
    with_area = [roi for roi in rois if contours[roi.number]]
    if not with_area:
        raise refusal("no-contours", path, "has no usable closed contour.")
    segments, placed = [], 0
    for roi in with_area:
        packed, count = fill_slices(roi.number, contours.pop(roi.number), image, findings)
        placed += count
        segments.append(Segment(roi.number, roi.concept, image.shape, packed, roi.algorithm))
    if not placed:
        kinds = ", ".join(sorted({kind for _, kind in findings.counts}))
        raise refusal(
            "outside-image",
            path,
            f"none of its contours lies on a slice of the image ({kinds}).",
            hint="Read it with the series that it was drawn on.",
        )
    return Segments(tuple(segments), (*notes, *findings.notes()))


def find_rois(path: Path, dataset: Dataset) -> list[Roi]:
    """Find all ROIs of a structure set, in the order of their numbers; no contour is looked at.

    Raises:
        DicomError: ``damaged``, if it is not clear which item belongs to which ROI.
    """
    observations: dict[int, Dataset] = {}
    for item in items(dataset, "RTROIObservationsSequence"):
        number = _number(path, item, "ReferencedROINumber")
        if number not in observations or not read_codes(observations[number], _TYPES):
            observations[number] = item
    contours: dict[int, list[Dataset]] = defaultdict(list)
    for item in items(dataset, "ROIContourSequence"):
        number = _number(path, item, "ReferencedROINumber")
        contours[number].extend(items(item, "ContourSequence"))
    frame = _frame_of_reference(dataset)
    laterality = Attributes(dataset).text("Laterality")
    found: dict[int, Roi] = {}
    for item in items(dataset, "StructureSetROISequence"):
        number = _number(path, item, "ROINumber")
        if number in found:
            raise damaged(path, f"has two ROIs with the number {number}.")
        name = clean_name(str(item.get("ROIName") or ""), f"ROI {number}")
        found[number] = Roi(
            number,
            read_concept(name, observations.get(number, item), _TYPES, laterality),
            clean_name(str(item.get("ROIGenerationAlgorithm") or ""), ""),
            Attributes(item).text("ReferencedFrameOfReferenceUID") or frame,
            tuple(contours.get(number, ())),
        )
    return [found[number] for number in sorted(found)]


def _number(path: Path, item: Dataset, keyword: str) -> int:
    number = Attributes(item).number(keyword)
    if number is None or number != int(number):
        raise damaged(path, f"has an item without {keyword}.")
    return int(number)


def _frame_of_reference(dataset: Dataset) -> str:
    """The one of the whole file, where a ROI names none."""
    own = Attributes(dataset).text("FrameOfReferenceUID")
    references = items(dataset, "ReferencedFrameOfReferenceSequence")
    named = {Attributes(item).text("FrameOfReferenceUID") for item in references}
    return own or (named.pop() if len(named) == 1 else "")


def _in_frame(
    path: Path, rois: Sequence[Roi], source: Source, *, refers: bool
) -> tuple[list[Roi], tuple[Problem, ...]]:
    """The ROIs in the image's frame of reference, and notes on the others."""
    kept, notes = [], {}
    error: DicomError | None = None
    for roi in rois:
        try:
            found = check_frame_of_reference(path, roi.frame_of_reference, source, refers=refers)
        except DicomError as refused:
            error = error or refused
            text = f"{path}: ROI {roi.number} lies in another or no frame of reference; left out."
            notes[text] = Problem(refused.problem.kind, text)
        else:
            kept.append(roi)
            notes.update({note.message: note for note in found})
    if error and not kept:
        raise error
    return kept, tuple(notes.values())


def _closed_contours(roi: Roi, findings: Findings) -> list[Contour]:
    """Each usable closed contour, LPS mm."""
    found: dict[bytes, Contour] = {}
    closed = 0
    for item in roi.contours:
        values = Attributes(item)
        kind = values.text("ContourGeometricType")
        if kind not in _CLOSED:
            findings.add(roi.number, "not-closed")
            continue
        closed += 1
        numbers = _coordinates(item, values)
        offset = values.numbers("ContourOffsetVector")
        if len(numbers) < 9 or len(numbers) % 3 or (offset and any(offset)):
            findings.add(roi.number, "bad-contour")
            continue
        points = numbers.reshape(-1, 3)
        if not (np.abs(points) <= _FAR).all():
            findings.add(roi.number, "bad-contour")
            continue
        claimed = values.number("NumberOfContourPoints")
        findings.add(roi.number, "point-count", int(claimed not in (None, len(points))))
        key = points.tobytes()
        findings.add(roi.number, "repeated-contour", int(key in found))
        found[key] = Contour(points, kind == _XOR)
    if not closed:
        findings.add(roi.number, "no-contours")
    return list(found.values())


def _coordinates(item: Dataset, values: Attributes) -> NDArray[np.float64]:
    """ContourData; empty where it is no list of numbers."""
    element = item.get_item("ContourData")
    text = None if element is None else element.value
    # A structure set has millions of them: most have no oddity and need no pattern.
    if isinstance(text, bytes) and not text.translate(None, _PLAIN):
        try:
            return np.fromiter(map(float, text.split(b"\\")), np.float64)
        except ValueError:
            return np.zeros(0)
    return np.array(values.numbers("ContourData") or ())


__all__ = ["read_rtstruct", "referenced_series"]
