"""Structured report by template TID 1500, Measurement Report (PS3.16), by highdicom.

One measurement group per label with its volume in mL (a 2D image: its area in mm2), found or not,
and its predicted Dice with a verdict where these were estimated; and one with the quality figures
of the result. A group refers to the segment of the DICOM SEG that was written with it, otherwise to
the source images.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.labels import Code, Label
from medseg_nca.errors import OutputError
from medseg_nca.io.dicom.files.reader import read_header
from medseg_nca.io.dicom.objects.codes import category, coded, concept, private_code, scheme_items
from medseg_nca.io.dicom.objects.identity import ResultUids
from medseg_nca.io.dicom.objects.segments import check_segmentation, display_name, label_mask
from medseg_nca.io.dicom.objects.source import (
    MANUFACTURER,
    MODEL,
    RESEARCH_USE,
    SourceImages,
    equipment,
    series_description,
    signature,
    source_images,
)
from medseg_nca.io.dicom.objects.values import UTF_8, new_uid, quiet_writing, text
from medseg_nca.io.segmentation import PredictedDice, Segmentation
from medseg_nca.io.writers.base import ResultWriter

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MILLILITRE = Code(scheme="UCUM", value="ml", meaning="mL")
_SQUARE_MM = Code(scheme="UCUM", value="mm2", meaning="mm2")
# What the figures and the verdict of a label are called.
_DICE = ("Predicted Dice", "Predicted Dice, lower end", "Predicted Dice, upper end")
_VERDICT = "Verdict on the segmentation"


def write_sr(segmentation: Segmentation, path: Path, *, seg_file: Path | None = None) -> None:
    """Write a report.

    Args:
        segmentation: the result.
        path: the file.
        seg_file: the DICOM SEG of the same result, to whose segments the figures belong.

    Raises:
        OutputError: if the image did not come from DICOM, its pixels have no known size, or
            ``seg_file`` is of another study or other labels.
    """
    check_segmentation(segmentation)
    source = source_images(segmentation.image, kind="sr")
    if segmentation.image.dims == 2 and source.source.stack.planes[0].spacing is None:
        raise OutputError(
            f"{source.source.stack.planes[0].path}: does not say how large its pixels are, so "
            "there is nothing to measure.",
            hint="Write the result as dicom-seg or sc.",
        )
    with quiet_writing():
        seg = None if seg_file is None else _read_seg(seg_file, segmentation, source)
        _build(segmentation, source, seg).save_as(path, enforce_file_format=True)


def _read_seg(path: Path, segmentation: Segmentation, source: SourceImages) -> Dataset:
    seg: Dataset = read_header(path)
    named = {int(item.SegmentNumber): item.SegmentLabel for item in seg.get("SegmentSequence", ())}
    named.pop(0, None)  # the background of a label map
    wanted = {n: display_name(v, n) for n, v in enumerate(segmentation.labels.labels, 1)}
    if seg.get("StudyInstanceUID") != source.source.study_uid or named != wanted:
        raise OutputError(
            f"{path}: is not the DICOM SEG of this result.", hint="Write both at the same time."
        )
    return seg


def _build(segmentation: Segmentation, source: SourceImages, seg: Dataset | None) -> Dataset:
    from highdicom.sr import ComprehensiveSR, MeasurementReport
    from pydicom.sr.codedict import codes

    labels = list(enumerate(segmentation.labels.labels, 1))
    uids = ResultUids(segmentation, source, "sr", "" if seg is None else str(seg.SOPInstanceUID))
    groups = [_group(number, label, segmentation, source, seg, uids) for number, label in labels]
    figures = {k: float(v) for k, v in segmentation.quality.items() if math.isfinite(v)}
    if figures:
        groups.append(_quality(figures, segmentation, source, uids("quality")))
    report = MeasurementReport(
        observation_context=_observer(segmentation),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
    )
    used = [coded(label) for _, label in labels] + [private_code(name) for name in figures]
    used += [private_code(_VERDICT)] if segmentation.predicted_dice else []
    dataset: Dataset = ComprehensiveSR(
        evidence=[*_evidence(source), *([] if seg is None else [seg])],
        content=report[0],
        series_instance_uid=uids("series"),
        series_number=source.series_number("sr"),
        sop_instance_uid=uids("instance"),
        instance_number=1,
        is_complete=True,
        series_description=series_description("Volumes", segmentation),
        coding_schemes=scheme_items(used) or None,
        **equipment(segmentation.algorithm),
    )
    _name_classes(dataset, source)
    return dataset


def _observer(segmentation: Segmentation) -> Any:
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes

    made_by = equipment(segmentation.algorithm)
    device = DeviceObserverIdentifyingAttributes(
        uid=new_uid("device", *made_by["software_versions"]),
        name=signature(segmentation.algorithm),
        manufacturer_name=MANUFACTURER,
        model_name=MODEL,
        serial_number=made_by["device_serial_number"],
    )
    return ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))


def _group(
    number: int, label: Label, segmentation: Segmentation, source: SourceImages,
    seg: Dataset | None, uids: ResultUids,
) -> Any:  # fmt: skip
    """The measurement group of a label: TID 1411 with a segment, otherwise TID 1501."""
    from highdicom.sr import (
        FindingSite,
        MeasurementsAndQualitativeEvaluations,
        ReferencedSegment,
        SourceSeriesForSegmentation,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    code = coded(label)
    mask = label_mask(segmentation, label)
    more: dict[str, Any] = {
        "finding_type": concept(code),
        "finding_category": concept(category(code)),
        "algorithm_id": _algorithm(segmentation),
        "measurements": [_size(mask, segmentation)],
    }
    predicted = segmentation.predicted_dice.get(label.name)
    if predicted is not None:
        more["measurements"] += _predicted_dice(predicted)
        more["qualitative_evaluations"] = [_verdict(predicted)]
    if label.modifier is not None:
        more["finding_sites"] = [
            FindingSite(concept(code), topographical_modifier=concept(label.modifier))
        ]
    name = display_name(label, number)
    if seg is None:
        return MeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(uid=uids("segment", number), identifier=name),
            source_images=_images(source, source.grid.frames(mask)),
            **more,
        )
    segment = next(item for item in seg.SegmentSequence if item.SegmentNumber == number)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=segment.TrackingUID, identifier=name),
        referenced_segment=ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=int(segment.SegmentNumber),
            source_series=SourceSeriesForSegmentation(source.source.series_uid),
        ),
        **more,
    )


def _size(mask: NDArray[np.bool_], segmentation: Segmentation) -> Any:
    """Volume in mL, or area in mm2 of a 2D image."""
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    count, axes = int(mask.sum()), segmentation.label_map.affine[:3, :3]
    if mask.ndim == 2:
        area = count * float(np.linalg.norm(np.cross(axes[:, 0], axes[:, 1])))
        return Measurement(name=codes.SCT.Area, value=round(area, 4), unit=concept(_SQUARE_MM))
    volume = count * abs(float(np.linalg.det(axes))) / 1000
    return Measurement(name=codes.SCT.Volume, value=round(volume, 6), unit=concept(_MILLILITRE))


def _predicted_dice(predicted: PredictedDice) -> list[Any]:
    """Predicted Dice and the ends of its interval, under private codes made from their names."""
    values = (predicted.dice, predicted.low, predicted.high)
    return [_figure(name, round(value, 4)) for name, value in zip(_DICE, values, strict=True)]


def _verdict(predicted: PredictedDice) -> Any:
    """The verdict, whose word is the meaning of a private code."""
    from highdicom.sr import QualitativeEvaluation

    name, value = private_code(_VERDICT), private_code(predicted.verdict)
    return QualitativeEvaluation(name=concept(name), value=concept(value))


def _figure(name: str, value: float) -> Any:
    """A figure without unit."""
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    return Measurement(
        name=concept(private_code(name)), value=float(f"{value:.6g}"), unit=codes.UCUM.NoUnits
    )


def _quality(
    figures: dict[str, float], segmentation: Segmentation, source: SourceImages, uid: str
) -> Any:
    """Figures about the result as a whole, under private codes made from their names."""
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, TrackingIdentifier

    found = segmentation.label_map.array[0] != 0
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uid, identifier="Quality of the result"),
        algorithm_id=_algorithm(segmentation),
        measurements=[_figure(name, value) for name, value in figures.items()],
        source_images=_images(source, source.grid.frames(found)),
    )


def _algorithm(segmentation: Segmentation) -> Any:
    from highdicom.sr import AlgorithmIdentification

    algorithm = segmentation.algorithm
    return AlgorithmIdentification(
        name=text(algorithm.name) or "unnamed",
        version=text(algorithm.version) or "unknown",
        parameters=[RESEARCH_USE],
    )


def _images(source: SourceImages, frames: NDArray[np.bool_]) -> list[Any]:
    """The source instances in which a mask lies, or all of them if it is empty."""
    from highdicom.sr import SourceImageForMeasurementGroup

    references = source.references
    if source.grid.on_source and frames.any():
        references = tuple(r for r, frame in zip(references, frames, strict=True) if frame.any())
    numbers: dict[tuple[str, str], list[int]] = {}
    for reference in references:
        found = numbers.setdefault((reference.class_uid, reference.instance_uid), [])
        if reference.frame is not None:
            found.append(reference.frame)
    return [
        SourceImageForMeasurementGroup(*uids, referenced_frame_numbers=found or None)
        for uids, found in numbers.items()
    ]


def _evidence(source: SourceImages) -> list[Dataset]:
    """The source instances; highdicom takes patient and study from the first of them."""
    from pydicom.dataset import Dataset
    from pydicom.uid import MRImageStorage

    made = []
    for reference in source.instances:
        item = Dataset()
        item.update(source.study)
        item.SpecificCharacterSet = UTF_8
        # Not all classes of real files are known to highdicom; see _name_classes.
        item.SOPClassUID, item.SOPInstanceUID = MRImageStorage, reference.instance_uid
        item.StudyInstanceUID = source.source.study_uid
        item.SeriesInstanceUID = source.source.series_uid
        made.append(item)
    return made


def _name_classes(dataset: Dataset, source: SourceImages) -> None:
    """Put the classes of the source instances into the list of evidence."""
    classes = {r.instance_uid: r.class_uid for r in source.instances}
    for study in dataset.CurrentRequestedProcedureEvidenceSequence:
        for series in study.ReferencedSeriesSequence:
            for item in series.ReferencedSOPSequence:
                uid = str(item.ReferencedSOPInstanceUID)
                item.ReferencedSOPClassUID = classes.get(uid, item.ReferencedSOPClassUID)


WRITER = ResultWriter(".sr.dcm", write_sr, options=("seg_file",))
