"""DICOM Segmentation (PS3.3 A.51), by highdicom: binary, fractional or a label map.

Every label of the table is a segment, numbered from 1 in the table's order, whether it was found
or not. Frames in which a segment has no voxel are left out; a result without any voxel has one
empty frame per segment, as the standard asks for at least one frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import OutputError
from medseg_nca.io.dicom.objects.codes import category, coded, colour, concept, scheme_items
from medseg_nca.io.dicom.objects.identity import ResultUids
from medseg_nca.io.dicom.objects.segments import (
    check_segmentation,
    display_name,
    label_mask,
    label_probabilities,
)
from medseg_nca.io.dicom.objects.source import (
    MANUFACTURER,
    SourceImages,
    equipment,
    reference_item,
    series_description,
    signature,
    source_images,
)
from medseg_nca.io.dicom.objects.values import exact_decimals, quiet_writing, text
from medseg_nca.io.segmentation import Segmentation, check_seg_type
from medseg_nca.io.writers.base import ResultWriter

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Kind = Literal["binary", "fractional", "labelmap"]
# No UID made from a UUID has a further part, so no other instance has a UID with this one.
_STAND_IN = "2.25.0."


def write_seg(segmentation: Segmentation, path: Path, *, seg_type: Kind = "binary") -> None:
    """Write a segmentation object.

    Args:
        segmentation: the result; its image came from DICOM.
        path: the file.
        seg_type: ``binary`` (a bit per voxel and segment), ``fractional`` (probabilities in steps
            of 1/255) or ``labelmap`` (one number per voxel, Supplement 243; young, and refused by
            older archives).

    Raises:
        OutputError: if the image did not come from DICOM, there are no probabilities for a
            fractional one, or labels overlap in a label map.
    """
    check_seg_type(seg_type)
    check_segmentation(segmentation)
    source = source_images(segmentation.image, kind="dicom-seg")
    with quiet_writing():
        dataset = _build(segmentation, source, seg_type)
        dataset.save_as(path, enforce_file_format=True)


def _build(segmentation: Segmentation, source: SourceImages, seg_type: Kind) -> Dataset:
    from highdicom.seg import Segmentation as SegmentationObject

    frames = _frames(segmentation, source, seg_type)
    empty = not frames.any()
    frames = frames[:1] if empty else frames
    stand_ins = _stand_ins(source)
    codes = [coded(label) for label in segmentation.labels.labels]
    uids = ResultUids(segmentation, source, "seg", seg_type)
    if seg_type == "fractional" and segmentation.probabilities is not None:
        uids.add_probabilities(segmentation.probabilities)
    dataset: Dataset = SegmentationObject(
        source_images=stand_ins[: len(frames)] if source.grid.on_source else stand_ins,
        pixel_array=frames,
        segmentation_type=seg_type.upper(),
        segment_descriptions=_descriptions(segmentation, uids),
        series_instance_uid=uids("series"),
        series_number=source.series_number("seg"),
        sop_instance_uid=uids("instance"),
        instance_number=1,
        omit_empty_frames=not empty,
        content_label="SEGMENTATION",
        content_description=text(signature(segmentation.algorithm)),
        series_description=series_description("Segmentation", segmentation),
        coding_schemes=scheme_items(codes) or None,
        **equipment(segmentation.algorithm),
        **({} if source.grid.on_source else _own_geometry(source, len(frames))),
    )
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uids("dimensions")
    _name_sources(dataset, source)
    dataset.ContentCreatorName = ""  # type 2, and a program has no name
    if source.source.stack.planes[0].position is None:
        dataset.PatientOrientation = ""  # type 2C without a place in the patient
    return dataset


def _frames(segmentation: Segmentation, source: SourceImages, seg_type: Kind) -> NDArray[Any]:
    """Frames ``(n, rows, columns)`` of segment numbers; ``(..., K)`` where segments may overlap."""
    labels = segmentation.labels.labels
    arrange = source.grid.frames
    if seg_type == "fractional":
        channels = label_probabilities(segmentation)
        return np.stack([arrange(channel) for channel in channels], axis=-1)
    if segmentation.labels.multi_label:
        masks = [arrange(label_mask(segmentation, label)) for label in labels]
        stacked = np.stack(masks, axis=-1).astype(np.uint8)
        if seg_type == "binary":
            return stacked
        if (stacked.sum(axis=-1, dtype=np.uint16) > 1).any():
            raise OutputError(
                "The labels overlap; a LABELMAP segmentation has one label per voxel.",
                hint="Write a binary one.",
            )
    numbers = np.zeros(segmentation.label_map.shape, np.uint8 if len(labels) < 256 else np.uint16)
    for number, label in enumerate(labels, 1):
        numbers[label_mask(segmentation, label)] = number
    return arrange(numbers)


def _descriptions(segmentation: Segmentation, uids: ResultUids) -> list[Any]:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    algorithm = segmentation.algorithm
    found = []
    for index, label in enumerate(segmentation.labels.labels):
        code = coded(label)
        description = SegmentDescription(
            segment_number=index + 1,
            segment_label=display_name(label, index + 1),
            segmented_property_category=concept(category(code)),
            segmented_property_type=concept(code),
            algorithm_type="AUTOMATIC",
            algorithm_identification=AlgorithmIdentificationSequence(
                name=text(algorithm.name) or "unnamed",
                version=text(algorithm.version) or "unknown",
                family=codes.cid7162.ArtificialIntelligence,
                source=MANUFACTURER,
            ),
            tracking_id=display_name(label, index + 1),
            tracking_uid=uids("segment", index + 1),
            display_color=CIELabColor.from_rgb(*colour(index)),
        )
        description.SegmentAlgorithmName = signature(algorithm)
        if label.modifier is not None:
            item = description.SegmentedPropertyTypeCodeSequence[0]
            item.SegmentedPropertyTypeModifierCodeSequence = [concept(label.modifier)]
        found.append(description)
    return found


def _stand_ins(source: SourceImages) -> list[Dataset]:
    """One single-frame header per plane, from which highdicom takes patient, study and geometry.

    Planes of multi-frame files are told apart by a number in the place of the instance's UID.
    """
    from pydicom.dataset import Dataset
    from pydicom.uid import MRImageStorage, SecondaryCaptureImageStorage

    made = []
    first = source.source.stack.planes[0]
    for k, plane in enumerate(source.source.stack.planes):
        item = Dataset()
        item.update(source.header)
        item.SOPClassUID = SecondaryCaptureImageStorage
        item.SOPInstanceUID = f"{_STAND_IN}{k}"
        item.SeriesInstanceUID = source.source.series_uid
        item.StudyInstanceUID = source.source.study_uid
        item.Rows, item.Columns = plane.shape
        item.Modality = source.source.modality
        if plane.position is not None and first.row is not None and first.column is not None:
            item.SOPClassUID = MRImageStorage
            item.FrameOfReferenceUID = source.frame_of_reference
            item.ImageOrientationPatient = exact_decimals([*first.row, *first.column])
            item.ImagePositionPatient = exact_decimals(plane.position)
            item.PixelSpacing = exact_decimals(first.spacing or source.grid.spacing)
            item.SliceThickness = exact_decimals([source.thickness])[0]
        made.append(item)
    return made


def _own_geometry(source: SourceImages, count: int) -> dict[str, Any]:
    """The planes of a result that does not lie on the planes of its source."""
    from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence

    grid = source.grid
    positions = [
        PlanePositionSequence("PATIENT", image_position=position.tolist())
        for position in grid.positions[:count]
    ]
    return {
        "plane_positions": positions,
        "plane_orientation": PlaneOrientationSequence("PATIENT", grid.orientation),
        "pixel_measures": PixelMeasuresSequence(
            pixel_spacing=grid.spacing,
            slice_thickness=grid.thickness,
            spacing_between_slices=grid.thickness,
        ),
    }


def _name_sources(dataset: Dataset, source: SourceImages) -> None:
    """Put the instances and frames of the source in the place of their stand-ins."""
    from pydicom.dataset import Dataset

    for group in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in group.get("DerivationImageSequence", ()):
            for item in derivation.SourceImageSequence:
                uid = item.ReferencedSOPInstanceUID
                if uid.startswith(_STAND_IN):  # highdicom gives one item to several frames
                    number = int(uid.removeprefix(_STAND_IN))
                    item.update(reference_item(source.references[number]))
    dataset.SourceImageSequence = [reference_item(r) for r in source.instances]
    series = Dataset()
    series.SeriesInstanceUID = source.source.series_uid
    series.ReferencedInstanceSequence = [reference_item(r) for r in source.instances]
    dataset.ReferencedSeriesSequence = [series]


WRITER = ResultWriter(".seg.dcm", write_seg, options=("seg_type",))
