"""What a segmentation object says before its pixels are decoded: segments, frames, geometry.

PS3.3 A.51 (Segmentation), A.89 (Label Map Segmentation), C.8.20.2 (Segmentation Image).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.dicom.annotations.concepts import (
    Concept,
    clean_name,
    read_codes,
    read_concept,
)
from medseg_nca.io.dicom.files.attributes import Attributes, group_values, items
from medseg_nca.io.dicom.files.classes import (
    LABEL_MAP_SEGMENTATION,
    SEGMENTATION,
    SURFACE_SEGMENTATION,
)
from medseg_nca.io.dicom.problems import DicomError, damaged, refusal, too_large
from medseg_nca.io.dicom.series.counts import concatenation_of

if TYPE_CHECKING:
    from pydicom import Dataset

TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")

# The most pixels of one frame, which no scanner reaches, and of all planes, which memory can hold.
MAX_PIXELS = 2**26
MAX_VOXELS = 2**30
# The numbers of ImageOrientationPatient may differ by this where a device writes it twice.
_SAME_DIRECTION = 1e-4
_RIGHT_ANGLE = 1e-2
_FAR = 1e6
# In pixels: frames whose positions are nearer to each other than the first number are of one plane;
# frames that are shifted within the plane by more than the second lie side by side.
_SAME_PLANE, _SIDE_BY_SIDE = 0.01, 0.1


@dataclass(frozen=True)
class SegmentDescription:
    """One item of the Segment Sequence."""

    number: int
    concept: Concept
    algorithm: str
    background: bool


@dataclass(frozen=True)
class FrameInfo:
    """Where one frame lies and whose it is; vectors are LPS, lengths mm.

    ``segment`` is None in a label map; ``laterality`` is that of the anatomy in the frame.
    """

    segment: int | None
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    laterality: str = ""


@dataclass(frozen=True)
class SegHeader:
    """Everything but the pixels.

    Attributes:
        kind: one of ``TYPES``.
        descriptions: by segment number.
        frames: in the order of the pixel data.
        shape: rows, columns.
        maximum: MaximumFractionalValue; None unless fractional.
        padding: PixelPaddingValue of a label map, or None.
        spacing: SpacingBetweenSlices, or None.
        thickness: SliceThickness, or None.
    """

    kind: str
    descriptions: Mapping[int, SegmentDescription]
    frames: tuple[FrameInfo, ...]
    shape: tuple[int, int]
    maximum: float | None
    padding: int | None
    spacing: float | None
    thickness: float | None


@dataclass(frozen=True)
class Planes:
    """The distinct planes of all frames, RAS mm, and which of them each frame is."""

    column_step: NDArray[np.float64]
    row_step: NDArray[np.float64]
    normal: NDArray[np.float64]
    origins: NDArray[np.float64]
    plane_of: tuple[int, ...]


def read_seg_header(path: Path, dataset: Dataset) -> SegHeader:
    """Understand a segmentation object.

    Raises:
        DicomError: ``not-a-segmentation``, ``incomplete-concatenation``, ``no-segments``,
            ``no-frames``, ``no-geometry``, ``damaged`` or ``too-large``.
    """
    top = Attributes(dataset)
    kind = _kind(path, top)
    _check_whole(path, top)
    shape = _shape(path, top)
    segments = _segments(path, dataset)
    frames, spacing, thickness = _frames(path, dataset, top, labelmap=kind == "LABELMAP")
    descriptions = {
        number: _description(number, item, _laterality(number, frames, top))
        for number, item in segments.items()
    }
    maximum = top.number("MaximumFractionalValue") if kind == "FRACTIONAL" else None
    if kind == "FRACTIONAL" and not (maximum and maximum > 0):
        raise damaged(path, "is a fractional segmentation without MaximumFractionalValue.")
    padding = top.number("PixelPaddingValue") if kind == "LABELMAP" else None
    return SegHeader(
        kind,
        descriptions,
        frames,
        shape,
        maximum,
        None if padding is None else int(padding),
        spacing,
        thickness,
    )


def find_planes(path: Path, header: SegHeader) -> Planes:
    """Sort the frames of a segmentation object into parallel planes.

    Raises:
        DicomError: ``mixed-orientations``, ``mixed-spacings``, ``no-geometry`` (vectors that are no
            directions), ``tiled`` (frames side by side) or ``too-large``.
    """
    orientations = np.array([frame.orientation for frame in header.frames])
    if np.abs(orientations - orientations[0]).max() > _SAME_DIRECTION:
        raise refusal(
            "mixed-orientations",
            path,
            "its frames have several orientations; one grid cannot hold them.",
        )
    spacings = np.array([frame.spacing for frame in header.frames])
    if np.abs(spacings / spacings[0] - 1).max() > _SAME_DIRECTION:
        raise refusal("mixed-spacings", path, "its frames have pixels of several sizes.")
    row, column = _directions(path, orientations[0])
    normal = np.cross(row, column)
    positions = np.array([frame.position for frame in header.frames]) * (-1, -1, 1)
    plane_of, first = _cluster(positions @ normal, _SAME_PLANE * spacings[0].min())
    origins = positions[first]
    if np.abs(positions - origins[plane_of]).max() > _SIDE_BY_SIDE * spacings[0].min():
        raise refusal(
            "tiled",
            path,
            "has frames side by side in one plane, as microscopy has; volumes have one.",
        )
    if len(origins) * header.shape[0] * header.shape[1] > MAX_VOXELS:
        raise too_large(path, f"{len(origins)} planes of {header.shape} pixels are too many.")
    return Planes(
        column_step=row * spacings[0, 1],
        row_step=column * spacings[0, 0],
        normal=normal,
        origins=origins,
        plane_of=tuple(plane_of.tolist()),
    )


def _kind(path: Path, top: Attributes) -> str:
    sop_class = top.text("SOPClassUID")
    if sop_class == SURFACE_SEGMENTATION:
        raise refusal(
            "surface-segmentation",
            path,
            "is a surface segmentation; its meshes are not turned into voxels.",
            hint="Export the segmentation as binary DICOM SEG.",
        )
    if sop_class not in (SEGMENTATION, LABEL_MAP_SEGMENTATION):
        raise refusal("not-a-segmentation", path, "is no DICOM segmentation object.")
    kind = top.text("SegmentationType")
    if kind not in TYPES:
        raise damaged(path, f"its SegmentationType is none of {', '.join(TYPES)}.")
    return kind


def _check_whole(path: Path, top: Attributes) -> None:
    """Refuse a part: its segments go on in other files, and would be taken for whole ones."""
    part = concatenation_of(top, frames=0)
    if part is None or (part.total == 1 and part.number in (None, 1)):
        return
    raise refusal(
        "incomplete-concatenation",
        path,
        "is one of several files that make one segmentation (a concatenation): not joined.",
        hint="Have the segmentation exported as one file.",
    )


def _shape(path: Path, top: Attributes) -> tuple[int, int]:
    rows, columns = (int(top.number(name) or 0) for name in ("Rows", "Columns"))
    if rows <= 0 or columns <= 0:
        raise damaged(path, "does not say how many rows and columns its frames have.")
    if rows * columns > MAX_PIXELS:
        raise too_large(path, f"claims frames of {rows} x {columns} pixels.")
    return rows, columns


def _segments(path: Path, dataset: Dataset) -> dict[int, Dataset]:
    found: dict[int, Dataset] = {}
    for item in items(dataset, "SegmentSequence"):
        number = Attributes(item).number("SegmentNumber")
        if number is None or number != int(number) or int(number) in found:
            raise damaged(path, "has segments without a number, or two with the same.")
        found[int(number)] = item
    if not found:
        raise refusal("no-segments", path, "describes no segment.")
    return found


def _description(number: int, item: Dataset, laterality: str) -> SegmentDescription:
    keyword = "SegmentedPropertyTypeCodeSequence"
    codes = read_codes(item, keyword)
    code = codes[0] if codes else None
    fallback = (code.meaning if code else "") or f"segment {number}"
    name = clean_name(str(item.get("SegmentLabel") or ""), fallback)
    return SegmentDescription(
        number=number,
        concept=read_concept(name, item, keyword, laterality),
        algorithm=clean_name(str(item.get("SegmentAlgorithmType") or ""), ""),
        background=code is not None and (code.scheme, code.value) == ("DCM", "125040"),
    )


def _laterality(number: int, frames: Sequence[FrameInfo], top: Attributes) -> str:
    """The side of a segment where all its frames name the same, or the file does; else ""."""
    sides = {frame.laterality for frame in frames if frame.segment in (number, None)}
    named = sides.pop() if len(sides) == 1 else ""
    return named or top.text("Laterality") or top.text("ImageLaterality")


def _frames(
    path: Path, dataset: Dataset, top: Attributes, *, labelmap: bool
) -> tuple[tuple[FrameInfo, ...], float | None, float | None]:
    """All frames, and the SpacingBetweenSlices and SliceThickness of the first."""
    count = int(top.number("NumberOfFrames") or 0)
    per_frame = items(dataset, "PerFrameFunctionalGroupsSequence")
    if count <= 0:
        raise refusal("no-frames", path, "has no frames.")
    if len(per_frame) != count:
        raise damaged(
            path,
            f"has {count} frames, and says of {len(per_frame)} where they lie (functional groups).",
        )
    shared = items(dataset, "SharedFunctionalGroupsSequence")
    common = Attributes(dataset, group_values(shared[0], depth=1), beyond=top) if shared else top
    each = [Attributes(dataset, group_values(item, depth=1), beyond=common) for item in per_frame]
    frames = [_frame(path, index, own, labelmap=labelmap) for index, own in enumerate(each)]
    return (
        tuple(frames),
        _positive(each[0], "SpacingBetweenSlices"),
        _positive(each[0], "SliceThickness"),
    )


def _frame(path: Path, index: int, values: Attributes, *, labelmap: bool) -> FrameInfo:
    geometry: list[tuple[float, ...]] = []
    for keyword, count in (
        ("ImagePositionPatient", 3),
        ("ImageOrientationPatient", 6),
        ("PixelSpacing", 2),
    ):
        numbers = values.numbers(keyword, count)
        if numbers is None or max(map(abs, numbers)) > _FAR:
            raise _no_geometry(path, f"frame {index + 1} has no {keyword}")
        geometry.append(numbers)
    position, orientation, spacing = geometry
    if min(spacing) <= 0:
        raise _no_geometry(path, f"the pixels of frame {index + 1} have no size")
    laterality = values.text("FrameLaterality")
    if labelmap:
        return FrameInfo(None, position, orientation, spacing, laterality)
    segment = values.number("ReferencedSegmentNumber")
    if segment is None:
        raise damaged(path, f"does not say which segment frame {index + 1} belongs to.")
    return FrameInfo(int(segment), position, orientation, spacing, laterality)


def _no_geometry(path: Path, text: str) -> DicomError:
    return refusal(
        "no-geometry",
        path,
        f"{text}, so its place in the patient is unknown.",
        hint="Only segmentations of volumes can be read, not those of photographs or slides.",
    )


def _positive(values: Attributes, keyword: str) -> float | None:
    number = values.number(keyword)
    return number if number and 0 < number < _FAR else None


def _directions(
    path: Path, orientation: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors (RAS) along which the column and the row number grow."""
    row, column = orientation.reshape(2, 3) * (-1, -1, 1)
    lengths = np.linalg.norm([row, column], axis=1)
    if np.abs(lengths - 1).max() > _RIGHT_ANGLE or abs(row @ column) > _RIGHT_ANGLE:
        raise _no_geometry(path, "ImageOrientationPatient has no two directions at right angles")
    row = row / lengths[0]
    column = column - (column @ row) * row
    return row, column / np.linalg.norm(column)


def _cluster(
    distances: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The plane of each frame, in ascending order, and the first frame of each plane."""
    order = np.argsort(distances, kind="stable")
    jumps = np.diff(distances[order]) > tolerance
    numbers = np.concatenate([[0], np.cumsum(jumps)])
    plane_of = np.empty(len(distances), np.int64)
    plane_of[order] = numbers
    return plane_of, order[np.concatenate([[True], jumps])]
