"""Which image a SEG or RTSTRUCT belongs to, and whether it lies in that image's space."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_nca.errors import ImageError
from medseg_nca.io.dicom.files.attributes import items
from medseg_nca.io.dicom.problems import damaged, refusal
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.records import Problem, Source
from medseg_nca.io.volume import OnGrid

if TYPE_CHECKING:
    from pydicom import Dataset


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Read values of a data set silently; what pydicom cannot make sense of is a damaged file."""
    try:
        with quiet():
            yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise damaged(path, f"its header cannot be understood ({type(error).__name__}).") from error


def referenced_series(dataset: Dataset) -> str | None:
    """Return the SeriesInstanceUID of the image that a SEG or RTSTRUCT was made on.

    Args:
        dataset: SEG (PS3.3 C.12.4, Common Instance Reference) or RTSTRUCT (PS3.3 C.8.8.5).

    Returns:
        The series that most instances are referenced of, the first of equal ones; None if the
        object names no series.
    """
    counts: dict[str, int] = {}
    for item in _series_items(dataset):
        uid = str(item.get("SeriesInstanceUID") or "").strip()
        if uid:
            instances = items(item, "ReferencedInstanceSequence") or items(
                item, "ContourImageSequence"
            )
            counts[uid] = counts.get(uid, 0) + len(instances)
    return max(counts, key=lambda uid: counts[uid]) if counts else None


def referenced_instances(dataset: Dataset) -> frozenset[str]:
    """Return the SOPInstanceUIDs of the image's files, as far as a SEG or RTSTRUCT names them.

    An object that names no series may still be assigned by them.
    """
    return frozenset(
        str(item.get("ReferencedSOPInstanceUID") or "").strip()
        for item in _instance_items(dataset)
        if item.get("ReferencedSOPInstanceUID")
    )


def frames_of_reference(dataset: Dataset) -> frozenset[str]:
    """Return the FrameOfReferenceUIDs that the positions in a SEG or RTSTRUCT are given in."""
    holders = (
        dataset,
        *items(dataset, "ReferencedFrameOfReferenceSequence"),
    )
    rois = items(dataset, "StructureSetROISequence")
    found = {str(holder.get("FrameOfReferenceUID") or "").strip() for holder in holders}
    found |= {str(roi.get("ReferencedFrameOfReferenceUID") or "").strip() for roi in rois}
    return frozenset(found - {""})


def refers_to(dataset: Dataset, source: Source) -> bool:
    """Tell whether a SEG or RTSTRUCT names the series of an image, or one of its instances."""
    if referenced_series(dataset) == source.series_uid:
        return True
    named = referenced_instances(dataset)
    return any(plane.sop_instance_uid in named for plane in source.stack.planes)


def image_source(image: OnGrid) -> Source:
    """Return what a volume came from.

    Raises:
        ImageError: if it did not come from DICOM, so that nothing can be placed on it.
    """
    source = image.header.get("dicom")
    if not isinstance(source, Source):
        raise ImageError(
            "The image was not read from DICOM, so it is unknown where a SEG or RTSTRUCT lies on "
            "it.",
            hint="Read the image from its DICOM series.",
        )
    return source


def unnamed_image(path: Path, dataset: Dataset) -> tuple[Problem, ...]:
    """Return a note where a SEG or RTSTRUCT names no image, so that only its space says which."""
    if referenced_series(dataset) is not None or referenced_instances(dataset):
        return ()
    text = f"{path}: names no image; it was taken by its frame of reference."
    return (Problem("no-reference", text),)


def check_frame_of_reference(
    path: Path, frame_of_reference: str | None, source: Source, *, refers: bool
) -> tuple[Problem, ...]:
    """Check that positions in a file mean the same place as positions in an image.

    Args:
        path: the file.
        frame_of_reference: FrameOfReferenceUID of the file or of one of its parts.
        source: what the image came from.
        refers: whether the file names the image, as of :func:`refers_to`.

    Returns:
        A note where a frame of reference is missing and the reference to the image stands for it.

    Raises:
        DicomError: ``other-frame-of-reference`` or ``no-frame-of-reference``.
    """
    own = source.frame_of_reference_uid
    if frame_of_reference and own:
        if frame_of_reference == own:
            return ()
        raise refusal(
            "other-frame-of-reference",
            path,
            "has another frame of reference than the image, so its positions are not the image's.",
            hint="Use it with the series that it was drawn on, or register the two first.",
        )
    missing = "the image" if frame_of_reference else "the file"
    if refers:
        text = f"{path}: {missing} names no frame of reference; the file refers to this image."
        return (Problem("no-frame-of-reference", text),)
    raise refusal(
        "no-frame-of-reference",
        path,
        f"cannot be placed: {missing} names no frame of reference, and the file does not refer to "
        "the image.",
    )


def _series_items(dataset: Dataset) -> Iterator[Dataset]:
    yield from items(dataset, "ReferencedSeriesSequence")
    for study in items(dataset, "StudiesContainingOtherReferencedInstancesSequence"):
        yield from items(study, "ReferencedSeriesSequence")
    for frame in items(dataset, "ReferencedFrameOfReferenceSequence"):
        for study in items(frame, "RTReferencedStudySequence"):
            yield from items(study, "RTReferencedSeriesSequence")


def _instance_items(dataset: Dataset) -> Iterator[Dataset]:
    for series in _series_items(dataset):
        yield from items(series, "ReferencedInstanceSequence")
        yield from items(series, "ContourImageSequence")
    groups = (
        *items(dataset, "SharedFunctionalGroupsSequence"),
        *items(dataset, "PerFrameFunctionalGroupsSequence"),
    )
    for group in groups:
        for derivation in items(group, "DerivationImageSequence"):
            yield from items(derivation, "SourceImageSequence")
    for holder in (dataset, *groups):
        for keyword in ("SourceImageSequence", "ReferencedImageSequence"):
            yield from items(holder, keyword)
    yield from items(dataset, "ReferencedInstanceSequence")
    for roi in items(dataset, "StructureSetROISequence"):
        yield from items(roi, "DefinitionSourceSequence")
    for roi in items(dataset, "ROIContourSequence"):
        for contour in items(roi, "ContourSequence"):
            yield from items(contour, "ContourImageSequence")
