"""Which SEG and RTSTRUCT objects of a scan belong to which volume: found by their references."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medseg_nca.errors import DataError, ImageError
from medseg_nca.io.dicom.annotations.concepts import Concept
from medseg_nca.io.dicom.annotations.labels import Segments, compose
from medseg_nca.io.dicom.annotations.legend import Legend, make_legend
from medseg_nca.io.dicom.annotations.references import (
    frames_of_reference,
    parsing,
    referenced_instances,
    referenced_series,
)
from medseg_nca.io.dicom.files.reader import read_header
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.records import DOUBTS, Problem, Scan, Series, Stack
from medseg_nca.io.volume import OnGrid, Volume

logger = logging.getLogger(__name__)

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
        frames: the frames of reference that its positions are given in.
        order: by which several objects of one image are put in order: date and time of the content,
            series number, series UID, file.
    """

    path: Path
    kind: Kind
    series_uid: str
    image_uid: str | None
    instances: frozenset[str] = field(repr=False)
    frames: frozenset[str]
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

    An object belongs to the series of the instances that it names, else to the series that it
    names; there to the stacks whose instances it names, or to all if it names none of them. One
    that names neither belongs to the only image of its patient (and study, where one of it comes
    into question) that has its frame of reference. With both kinds, a volume with a SEG leaves its
    RTSTRUCTs aside.

    Args:
        scan: where they were found.
        kinds: which are looked for.
        ignored: image series whose annotations are of no interest.
    """
    refused: dict[Path, Problem] = {}
    found: dict[tuple[str, str], list[Annotation]] = defaultdict(list)
    images = _Images(scan)
    for annotation, own in _read(scan.series, kinds, refused):
        series = images.of(annotation, own)
        if isinstance(series, Problem):
            refused[annotation.path] = series
            continue
        if series.uid in ignored:
            continue
        if not series.stacks:
            reason = series.problems[0].message if series.problems else "it has no volume"
            text = f"{annotation.path}: the series that it was drawn on cannot be used: {reason}"
            refused[annotation.path] = Problem("source-refused", text)
        for stack in _stacks(annotation, series):
            found[series.uid, stack.name].append(annotation)
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
) -> Iterable[tuple[Annotation, Series]]:
    for one in series:
        if one.kind not in kinds:
            continue
        for path in one.files:
            if one.problems:
                refused[path] = one.problems[0]
                continue
            try:
                yield _annotation(path, one), one
            except DicomError as error:
                refused[path] = error.problem


def _annotation(path: Path, series: Series) -> Annotation:
    header = read_header(path)
    with parsing(path):
        image = referenced_series(header)
        instances = referenced_instances(header)
        frames = frames_of_reference(header)
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
        frames,
        (day, hour, series.number, series.uid, str(path)),
    )


class _Images:
    """The image series of a scan, by what an annotation may name of them."""

    def __init__(self, scan: Scan) -> None:
        self.uids = {series.uid for series in scan.series}
        self.series = {series.uid: series for series in scan.series if series.kind == "image"}
        self.by_instance = {
            plane.sop_instance_uid: series
            for series in self.series.values()
            for stack in series.stacks
            for plane in stack.planes
        }
        self._refused: dict[str, Series] | None = None

    def of(self, annotation: Annotation, own: Series) -> Series | Problem:
        """Return the series that an annotation belongs to, or why there is none.

        Args:
            annotation: in question.
            own: the series of the annotation itself.
        """
        named = self.series.get(annotation.image_uid or "")
        counts = Counter(
            self.by_instance[uid].uid
            for uid in sorted(annotation.instances)
            if uid in self.by_instance
        )
        if counts and (named is None or named.uid not in counts):
            return self.series[max(counts, key=lambda uid: (counts[uid], uid))]
        if named is not None:
            return named
        for uid in sorted(annotation.instances):
            if uid in self.refused:
                return self.refused[uid]
        if annotation.image_uid or annotation.instances:
            return self._absent(annotation)
        return self._by_frame(annotation, own)

    @property
    def refused(self) -> dict[str, Series]:
        """The series that make no volume, by their instances; read when first asked for."""
        if self._refused is None:
            self._refused = {}
            for series in self.series.values():
                for path in () if series.stacks else series.files:
                    with suppress(DicomError):
                        self._refused[str(read_header(path).get("SOPInstanceUID"))] = series
        return self._refused

    def _absent(self, annotation: Annotation) -> Problem:
        if annotation.image_uid in self.uids:
            text = "refers to a series that holds no images, so it has no grid."
        else:
            what = "a series that is" if annotation.image_uid else "images that are"
            text = f"was drawn on {what} not in this folder, so it has no grid."
        return Problem("source-absent", f"{annotation.path}: {text}")

    def _by_frame(self, annotation: Annotation, own: Series) -> Series | Problem:
        """The only image with the frame of reference of an annotation that names none."""
        text = f"{annotation.path}: names no series and no instance that it was drawn on"
        if not annotation.frames:
            return Problem("no-reference", f"{text}, and no frame of reference.")
        near = [
            series
            for series in self.series.values()
            if series.frame_of_reference_uid in annotation.frames
            and series.patient_id == own.patient_id
            and (series.stacks or series.refused)  # localizers do not count
        ]
        near = [series for series in near if series.study_uid == own.study_uid] or near
        count = sum(max(1, len(series.stacks)) for series in near)
        if count == 1:
            return near[0]
        how_many = f"{count} images of its patient have" if count else "no image of its patient has"
        which = ", so it is not known which is meant" if count else ""
        return Problem("no-reference", f"{text}, and {how_many} its frame of reference{which}.")


def _stacks(annotation: Annotation, series: Series) -> Sequence[Stack]:
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
            found.concept for _, found in sorted(descriptions.items()) if not found.background
        )
    from medseg_nca.io.dicom.annotations.rtstruct import find_rois

    with parsing(path):
        rois = find_rois(path, header)
    return tuple(roi.concept for roi in rois if roi.contours)


def read_label_file(path: Path, image: OnGrid, legend: Legend | None = None) -> Volume:
    """Read an object as a label map on the grid of its image, ``(1, x, y, z)``.

    Of overlapping segments the one with the higher number gets the voxel. What could not be used
    of the object is told by the log.

    Args:
        path: a SEG or an RTSTRUCT.
        image: that it was drawn on, read from DICOM.
        legend: the numbers of the segments; made of this object alone if not given.

    Raises:
        DicomError: if it is neither, or cannot be used with this image.
        ImageError: if a segment is not in the legend, or the image is not from DICOM.
    """
    segments = read_annotation(path, _kind_of(path), image)
    for note in segments.notes:
        if note.kind in DOUBTS:
            logger.warning("%s", note.message)
    if not segments.segments:
        raise DicomError(Problem("no-segments", f"{path}: describes no segment."))
    try:
        legend = legend or make_legend([[segment.concept for segment in segments]])
        label_map = compose(segments, legend, image).label_map
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
