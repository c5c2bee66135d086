"""Which SEG and RTSTRUCT objects of a scan belong to which volume: found by their references."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medseg_nca.config import LabelTable
from medseg_nca.errors import DataError, ImageError
from medseg_nca.io.dicom.annotations.concepts import Concept
from medseg_nca.io.dicom.annotations.labels import Segments, compose, merge_tables
from medseg_nca.io.dicom.annotations.references import (
    parsing,
    referenced_instances,
    referenced_series,
)
from medseg_nca.io.dicom.files.reader import read_header
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.records import Problem, Scan, Series, Stack
from medseg_nca.io.volume import OnGrid, Volume

Kind = Literal["seg", "rtstruct"]
KINDS: tuple[Kind, ...] = ("seg", "rtstruct")


@dataclass(frozen=True)
class Annotation:
    """One SEG or RTSTRUCT object.

    Attributes:
        path: the file.
        kind: which of the two.
        series_uid: its own series.
        image_uid: the series that it was drawn on; None where it names none.
        instances: SOPInstanceUIDs of the images that it names.
        order: by which several objects of one image are put in order: date and time of the content,
            series number, series UID, file.
    """

    path: Path
    kind: Kind
    series_uid: str
    image_uid: str | None
    instances: frozenset[str] = field(repr=False)
    order: tuple[str, str, float, str, str]


@dataclass(frozen=True)
class Assigned:
    """What was found.

    Attributes:
        by_stack: the annotations of a volume, in their order, by series UID and name of the stack.
        refused: objects that cannot be used, with the reason.
    """

    by_stack: Mapping[tuple[str, str], tuple[Annotation, ...]]
    refused: Mapping[Path, Problem]


def assign(scan: Scan, kinds: Collection[Kind] = KINDS, ignored: Collection[str] = ()) -> Assigned:
    """Find the volumes that the annotations of a scan belong to.

    An object belongs to the series that it refers to, and there to the stacks whose instances it
    names, or to all if it names none of them. One that names no series belongs to the series of
    the instances that it names. With both kinds, a volume with a SEG leaves its RTSTRUCTs aside.

    Args:
        scan: where they were found.
        kinds: which are looked for.
        ignored: image series whose annotations are of no interest.
    """
    refused: dict[Path, Problem] = {}
    found: dict[tuple[str, str], list[Annotation]] = defaultdict(list)
    images = {series.uid: series for series in scan.series if series.kind == "image"}
    for annotation in _read(scan.series, kinds, refused):
        series = _image_of(annotation, images)
        if series is not None and series.uid in ignored:
            continue
        if series is None:
            refused[annotation.path] = _absent(annotation)
        elif not series.stacks:
            reason = series.problems[0].message if series.problems else "it has no volume"
            text = f"{annotation.path}: the series that it was drawn on cannot be used: {reason}"
            refused[annotation.path] = Problem("source-refused", text)
        for stack in _stacks(annotation, series):
            found[series.uid if series else "", stack.name].append(annotation)
    return Assigned({key: _preferred(group) for key, group in found.items()}, refused)


def read_annotation(path: Path, kind: Kind, image: OnGrid) -> Segments:
    """Read the segments of an object on the grid of an image.

    Raises:
        DicomError: if it cannot be used with this image.
    """
    if kind == "seg":
        from medseg_nca.io.dicom.annotations.seg import read_seg

        return read_seg(path, image)
    from medseg_nca.io.dicom.annotations.rtstruct import read_rtstruct

    return read_rtstruct(path, image)


def _read(
    series: Iterable[Series], kinds: Collection[Kind], refused: dict[Path, Problem]
) -> Iterable[Annotation]:
    for one in series:
        if one.kind not in kinds:
            continue
        for path in one.files:
            if one.problems:
                refused[path] = one.problems[0]
                continue
            try:
                yield _annotation(path, one)
            except DicomError as error:
                refused[path] = error.problem


def _annotation(path: Path, series: Series) -> Annotation:
    header = read_header(path)
    with parsing(path):
        image = referenced_series(header)
        instances = referenced_instances(header)
        day, hour = (
            str(header.get(f"Content{part}") or header.get(f"StructureSet{part}") or "")
            for part in ("Date", "Time")
        )
    return Annotation(
        path,
        "seg" if series.kind == "seg" else "rtstruct",
        series.uid,
        image,
        instances,
        (day, hour, series.number, series.uid, str(path)),
    )


def _image_of(annotation: Annotation, images: Mapping[str, Series]) -> Series | None:
    if annotation.image_uid is not None:
        return images.get(annotation.image_uid)
    for series in images.values():
        planes = (plane for stack in series.stacks for plane in stack.planes)
        if any(plane.sop_instance_uid in annotation.instances for plane in planes):
            return series
    return None


def _stacks(annotation: Annotation, series: Series | None) -> Sequence[Stack]:
    if series is None:
        return ()
    named = [
        stack
        for stack in series.stacks
        if any(plane.sop_instance_uid in annotation.instances for plane in stack.planes)
    ]
    return named or series.stacks


def _preferred(group: Sequence[Annotation]) -> tuple[Annotation, ...]:
    """All SEGs, or all RTSTRUCTs if there is no SEG."""
    kind = "seg" if any(annotation.kind == "seg" for annotation in group) else "rtstruct"
    chosen = (annotation for annotation in group if annotation.kind == kind)
    return tuple(sorted(chosen, key=lambda annotation: annotation.order))


def _absent(annotation: Annotation) -> Problem:
    what = "a series that is" if annotation.image_uid else "images that are"
    text = f"{annotation.path}: was drawn on {what} not in this folder, so it has no grid."
    return Problem("source-absent", text)


def concepts_of(path: Path, kind: Kind) -> tuple[Concept, ...]:
    """List what the segments of an object are called, from its header alone.

    Raises:
        DicomError: if it cannot be understood.
    """
    header = read_header(path)
    if kind == "seg":
        from medseg_nca.io.dicom.annotations.seg_header import read_seg_header

        with parsing(path):
            descriptions = read_seg_header(path, header).descriptions
        return tuple(
            Concept(found.name, found.code, found.modifiers)
            for _, found in sorted(descriptions.items())
            if not found.background
        )
    from medseg_nca.io.dicom.annotations.rtstruct import find_rois

    with parsing(path):
        rois = find_rois(path, header)
    return tuple(Concept(roi.name, roi.code, roi.modifiers) for roi in rois if roi.contours)


def read_label_file(path: Path, image: OnGrid, labels: LabelTable | None = None) -> Volume:
    """Read an object as a label map on the grid of its image, ``(1, x, y, z)``.

    Of overlapping segments the one with the higher number gets the voxel.

    Args:
        path: a SEG or an RTSTRUCT.
        image: that it was drawn on, read from DICOM.
        labels: the numbers of the segments, as of
            :func:`medseg_nca.io.dicom.annotations.labels.merge_tables`; their order in the object
            if not given.

    Raises:
        DicomError: if it is neither, or cannot be used with this image.
        ImageError: if a segment is not in the table, or the image is not from DICOM.
    """
    segments = read_annotation(path, _kind_of(path), image)
    if not segments.segments:
        raise DicomError(Problem("no-segments", f"{path}: describes no segment."))
    try:
        table = labels or merge_tables([[segment.concept for segment in segments]])
        label_map = compose(segments, table, image).label_map
    except ImageError:
        raise
    except DataError as error:
        raise ImageError(f"{path}: {error.message}", hint=error.hint) from error
    return Volume(label_map.array, label_map.affine, (path,))


def _kind_of(path: Path) -> Kind:
    from medseg_nca.io.dicom.files.classes import kind_of

    header = read_header(path)
    with quiet():
        kind = kind_of(str(header.get("SOPClassUID") or ""), has_pixels="Rows" in header)
    if kind not in KINDS:
        text = f"{path}: is no segmentation and no structure set, so it is no label map."
        raise DicomError(Problem("not-a-label-map", text))
    return "seg" if kind == "seg" else "rtstruct"
