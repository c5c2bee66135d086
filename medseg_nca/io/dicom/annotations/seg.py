"""Read DICOM segmentation objects onto the grid of an image (PS3.3 A.51, A.89).

highdicom reads them as volumes on a regular grid of their own and refuses files without one; here
each frame is placed onto the image by itself, so any subset of slices in any order is understood,
and no more than one segment is unpacked at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ConfigError, MedsegError
from medseg_nca.io.dicom.annotations.labels import Segment, Segments
from medseg_nca.io.dicom.annotations.packed import PackedMask
from medseg_nca.io.dicom.annotations.references import (
    check_frame_of_reference,
    image_source,
    parsing,
    referenced_series,
    refers_to,
    unnamed_image,
)
from medseg_nca.io.dicom.annotations.regrid import PlaneGrid
from medseg_nca.io.dicom.annotations.seg_header import (
    Planes,
    SegHeader,
    find_planes,
    read_seg_header,
)
from medseg_nca.io.dicom.files.reader import Opened, opened
from medseg_nca.io.dicom.pixels.decode import decode_frame
from medseg_nca.io.dicom.problems import damaged, refusal
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.records import Problem
from medseg_nca.io.volume import OnGrid

_Masks = dict[int, dict[int, PackedMask]]
# In slices: a plane that is nearer than this to a slice of the image lies on it.
_ON_SLICE = 0.1


def read_seg(path: Path, image: OnGrid, *, threshold: float = 0.5) -> Segments:
    """Read the segments of a DICOM SEG: binary, fractional or label map.

    Every segment that the object describes is returned in the order of its numbers, an empty one
    too; what is coded as background (DCM 125040) is none. A voxel of the image belongs to a segment
    if its centre lies in one of the segment's voxels
    (:mod:`medseg_nca.io.dicom.annotations.regrid`). The notes say what was resampled, lies beyond
    the image, has no description or is empty.

    Args:
        path: the file.
        image: read from DICOM; gives grid and frame of reference.
        threshold: which part of MaximumFractionalValue belongs to a segment, probability or
            occupancy alike, above 0 and at most 1.

    Raises:
        DicomError: if the file cannot be read, has another frame of reference
            (``other-frame-of-reference``), no geometry, or contradicts itself; see
            :mod:`medseg_nca.io.dicom.annotations.seg_header`.
        ImageError: if the image did not come from DICOM.
        ConfigError: if the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"threshold is {threshold}; it must lie above 0 and at most at 1.")
    source = image_source(image)
    path = Path(path)
    with opened(path) as file:
        with parsing(path):
            series = referenced_series(file.dataset)
            uid = str(file.dataset.get("FrameOfReferenceUID") or "").strip()
            refers = refers_to(file.dataset, source)
            notes = check_frame_of_reference(path, uid, source, refers=refers)
            notes += unnamed_image(path, file.dataset)
            header = read_seg_header(path, file.dataset)
            planes = find_planes(path, header)
        masks, more = _collect(file, header, planes, threshold)
    grid = _plane_grid(header, planes, image, own=refers or series is None)
    return _place(path, header, masks, grid, image, (*notes, *more))


def _collect(
    file: Opened, header: SegHeader, planes: Planes, threshold: float
) -> tuple[_Masks, tuple[Problem, ...]]:
    """The masks of all segments, by plane, from one pass over the frames."""
    path = file.path
    masks: _Masks = {number: {} for number in header.descriptions}
    unknown: dict[int, int] = {}
    for index, frame in enumerate(_stored(file, len(header.frames))):
        for number, mask in _split(header, index, frame, threshold):
            packed = PackedMask.pack(mask)
            if not packed.voxels:
                continue
            if number not in masks:
                unknown[number] = unknown.get(number, 0) + packed.voxels
                continue
            before = masks[number].setdefault(planes.plane_of[index], packed)
            if before != packed:
                raise refusal(
                    "ambiguous-frames",
                    path,
                    f"has two frames of segment {number} at the same place that differ; is it of "
                    "several points in time?",
                )
    if not unknown:
        return masks, ()
    listed = ", ".join(str(number) for number in sorted(unknown)[:8])
    text = (
        f"{path}: {sum(unknown.values())} pixels belong to segments that it does not describe "
        f"({listed}); they are left out."
    )
    return masks, (Problem("unknown-segment", text),)


def _split(
    header: SegHeader, index: int, frame: NDArray[Any], threshold: float
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """The segments of one frame, with their masks."""
    segment = header.frames[index].segment
    if segment is not None:
        level = 1 if header.maximum is None else threshold * header.maximum
        yield segment, frame >= level
        return
    for value in np.unique(frame).tolist():
        description = header.descriptions.get(value)
        background = value == 0 if description is None else description.background
        if not background and value != header.padding:
            yield value, frame == value


def _stored(file: Opened, count: int) -> Iterator[NDArray[Any]]:
    """The stored values of each frame, ``(rows, columns)``, one at a time from the disk."""
    dataset, path = file.dataset, file.path
    if file.pixels is None:
        raise refusal("no-frames", path, "has no frames.")
    bits = dataset.get("BitsAllocated")
    if dataset.get("SamplesPerPixel", 1) != 1 or bits not in (1, 8, 16):
        raise damaged(
            path, "its pixels are no masks: they must have one sample of 1, 8 or 16 bits."
        )
    if bits == 1 and not file.syntax.little:
        raise refusal("unsupported-syntax", path, "holds single bits in big-endian order.")
    for index in range(count):
        try:
            with quiet():
                frame = decode_frame(file, file.pixels, index)
        except MedsegError:
            raise
        except Exception as error:  # each decoder has its own
            text = f"frame {index + 1} cannot be decoded ({type(error).__name__})."
            raise damaged(path, text) from error
        yield frame


def _plane_grid(header: SegHeader, planes: Planes, image: OnGrid, *, own: bool) -> PlaneGrid:
    """Complete the planes by how thick they are.

    SpacingBetweenSlices where the positions agree with it; else, for planes on slices of the image
    that they were made on, the distance of those slices; else the smallest distance of two planes,
    or SliceThickness. Files with a wrong SpacingBetweenSlices are common.
    """
    gaps = np.diff(planes.origins @ planes.normal)
    declared = header.spacing
    step = float(np.linalg.norm(image.affine[:3, 2]))
    if declared and len(gaps) and _multiples(gaps, declared):
        thickness = declared
    elif own and _on_slices(planes, image):
        thickness = step
    elif len(gaps):
        thickness = float(gaps.min())
    else:
        thickness = declared or header.thickness or step
    return PlaneGrid(
        planes.column_step, planes.row_step, planes.normal, planes.origins, header.shape, thickness
    )


def _multiples(gaps: NDArray[np.float64], spacing: float) -> bool:
    times = gaps / spacing
    return bool((np.abs(times - np.rint(times)) < _ON_SLICE).all() and (times > 0.5).all())


def _on_slices(planes: Planes, image: OnGrid) -> bool:
    """Whether the planes coincide with slices of the image, or with what would continue them."""
    axis = image.affine[:3, 2]
    if np.linalg.norm(np.cross(axis / np.linalg.norm(axis), planes.normal)) > _ON_SLICE:
        return False
    to_index = np.linalg.inv(image.affine)
    index = planes.origins @ to_index[2, :3] + to_index[2, 3]
    return bool(np.abs(index - np.rint(index)).max() < _ON_SLICE)


def _place(
    path: Path,
    header: SegHeader,
    masks: _Masks,
    grid: PlaneGrid,
    image: OnGrid,
    notes: tuple[Problem, ...],
) -> Segments:
    shape = (*image.shape, 1)[:3]
    segments, found, lost = [], 0, 0
    for number, description in sorted(header.descriptions.items()):
        if description.background:
            continue
        packed, outside = grid.place(masks.pop(number), image.affine, shape)
        if image.dims == 2:
            packed = PackedMask(packed.start[:2], packed.size[:2], packed.voxels, packed.bits)
        found, lost = found + packed.voxels, lost + outside
        segments.append(
            Segment(number, description.concept, image.shape, packed, description.algorithm)
        )
    if lost and not found:
        raise refusal(
            "outside-image", path, "lies wholly outside the image, in the same frame of reference."
        )
    return Segments(tuple(segments), (*notes, *_findings(path, grid, image, segments, lost)))


def _findings(
    path: Path, grid: PlaneGrid, image: OnGrid, segments: list[Segment], lost: int
) -> Iterator[Problem]:
    difference = grid.difference(image.affine)
    if difference:
        text = (
            f"{path}: lies on another grid than the image, {difference}; nearest voxels are used."
        )
        yield Problem("resampled", text)
    if lost:
        yield Problem("outside-image", f"{path}: {lost} voxels lie outside the image.")
    empty = [str(segment.number) for segment in segments if not segment.voxels]
    if empty:
        text = f"{path}: these segments have no voxel on the image: {', '.join(empty[:20])}."
        yield Problem("empty-segment", text)


__all__ = ["read_seg", "referenced_series"]
