"""Decoded values of planes, as their modality means them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.dicom.files.claims import count_frames
from medseg_nca.io.dicom.files.places import Pixels
from medseg_nca.io.dicom.files.reader import Opened, opened
from medseg_nca.io.dicom.pixels.decode import decode_frame
from medseg_nca.io.dicom.pixels.rescale import meant, narrowest
from medseg_nca.io.dicom.pixels.tables import TableError, in_colour
from medseg_nca.io.dicom.problems import DicomError, damaged, refusal, too_large
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.records import Plane

_EXPORT = "Have it exported again, or correct its header."
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


# Of a header, what says how pixels are stored and what they mean: image pixel and look-up tables
# (0028), functional groups (5200), offsets of packed frames (7FE0), and a few others.
_GROUPS = {0x0028, 0x5200, 0x7FE0}
# SpecificCharacterSet, SOPClassUID, Modality, Units
_TAGS = {0x00080005, 0x00080016, 0x00080060, 0x00541001}


# Of those groups, what differs from plane to plane and only says how to show it: extremes, windows.
_SHOWN = {0x00280106, 0x00280107, 0x00281050, 0x00281051, 0x00281055}


def of_pixels(tag: int) -> bool:
    """Whether an element matters for what the pixels of its file mean."""
    return (tag >> 16 in _GROUPS and tag not in _SHOWN) or tag in _TAGS


def read_planes(planes: Sequence[Plane], *, upwards: bool = False) -> NDArray[Any]:
    """Read the values of planes, in their order.

    Each file is opened once and only the frames asked for are decoded; beside the result, one
    decoded frame is in memory. Bits beyond BitsStored (old overlays) are ignored, whatever the
    transfer syntax (:mod:`bits`). Grey values get the modality LUT or slope and intercept of their
    own frame; MONOCHROME1 is turned where that is right (:func:`rescale.is_turned`).
    PixelPaddingValue is a value as any other. Palettes and YBR become RGB.

    Args:
        planes: at least one; all of one shape, all grey or all in colour.
        upwards: whether the rows of each plane come from the last to the first.

    Returns:
        ``(n, rows, columns)``, or ``(n, rows, columns, 3)`` in colour; the first of uint8, int16,
        uint16, int32 that holds all values exactly, else float32.

    Raises:
        DicomError: as :func:`medseg_nca.io.dicom.files.reader.read_header`; ``damaged`` names file
            and frame that cannot be decoded; ``bad-value`` for bits, slopes and tables of no sense;
            ``no-pixels``, ``unsupported-pixels``, ``mixed-shapes``; ``changed`` for a file that is
            another instance than that of the plane.
    """
    if not planes:
        raise ValueError("planes: at least one is needed")
    result = _Result(len(planes))
    instances = {plane.path: plane.sop_instance_uid for plane in planes}
    for path, wanted in _by_file(planes).items():
        with opened(path, only=of_pixels) as file:
            _check_instance(file, instances[path])
            wanted.sort(key=lambda pair: pair[1])  # the lowest frame first
            frames = _frames(file, [frame for _, frame in wanted])
            for (index, _), values in zip(wanted, frames, strict=True):
                result.put(path, index, values[::-1] if upwards else values)
    return result.array


def each_plane(planes: Sequence[Plane]) -> Iterator[NDArray[Any]]:
    """Read one plane after the other, as :func:`read_planes`; each has a type of its own.

    A file is opened once for all its planes that follow on each other.
    """
    for path, group in groupby(planes, key=lambda plane: plane.path):
        with opened(path, only=of_pixels) as file:
            wanted = list(group)
            _check_instance(file, wanted[0].sop_instance_uid)
            yield from _frames(file, [plane.frame or 0 for plane in wanted])


def check_shape(path: Path, values: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Refuse a plane of another shape than those before.

    Raises:
        DicomError: ``mixed-shapes``.
    """
    if values.shape != shape:
        raise refusal(
            "mixed-shapes",
            path,
            f"its pixels are {values.shape}, those before are {shape}.",
            hint="One volume is made of planes of one shape.",
        )


def _check_instance(file: Opened, uid: str) -> None:
    """Refuse a file that was replaced since its header was read."""
    if uid and file.instance != uid:
        raise refusal(
            "changed",
            file.path,
            "is another instance than when its series was found.",
            hint="Run it again.",
        )


def _by_file(planes: Sequence[Plane]) -> dict[Path, list[tuple[int, int]]]:
    """For each file the places in the result, and the frames for them."""
    wanted: dict[Path, list[tuple[int, int]]] = {}
    for index, plane in enumerate(planes):
        wanted.setdefault(plane.path, []).append((index, plane.frame or 0))
    return wanted


class _Result:
    """Planes that are put together; the array is made for the first and widened where needed."""

    def __init__(self, count: int) -> None:
        self.array: NDArray[Any] = np.empty((count, 0, 0), np.uint8)
        self._put = np.zeros(count, bool)

    def put(self, path: Path, index: int, values: NDArray[Any]) -> None:
        """Put a plane into its place."""
        first = not self._put.any()
        dtype = narrowest(values, None if first else self.array.dtype)
        try:
            if first:
                self.array = np.empty((len(self._put), *values.shape), dtype)
            elif self.array.dtype != dtype:
                self._widen(dtype)
        except MemoryError as error:
            raise too_large(path, "there is not enough memory for its series.") from error
        check_shape(path, values, self.array.shape[1:])
        self.array[index] = values
        self._put[index] = True

    def _widen(self, dtype: np.dtype[Any]) -> None:
        """Only planes that are there are copied: memory is taken when it is written to."""
        wide = np.empty(self.array.shape, dtype)
        for index in np.flatnonzero(self._put):
            wide[index] = self.array[index]
        self.array = wide


def _frames(file: Opened, wanted: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Decode frames of one file, in the order given."""
    if file.pixels is None:
        raise refusal("no-pixels", file.path, "is a DICOM object without pixels.")
    count = count_frames(file.dataset)
    for frame in wanted:
        if not 0 <= frame < count:
            raise damaged(file.path, f"has {count} frames; number {frame + 1} is wanted.")
        try:
            with quiet():
                values = _values(file, file.pixels, frame)
        except DicomError:
            raise
        except MemoryError as error:
            raise too_large(file.path, f"no memory to decode frame {frame + 1}.") from error
        except Exception as error:
            raise damaged(
                file.path, f"frame {frame + 1} cannot be decoded ({type(error).__name__})."
            ) from error
        yield values


def _values(file: Opened, pixels: Pixels, frame: int) -> NDArray[Any]:
    dataset = file.dataset
    kind = dataset.get("PhotometricInterpretation")
    if kind not in (*_GREY, *_COLOUR, "PALETTE COLOR"):
        raise refusal(
            "unsupported-pixels",
            file.path,
            "its PhotometricInterpretation is missing or not among "
            f"{', '.join((*_GREY, *_COLOUR))}, PALETTE COLOR.",
        )
    stored = decode_frame(file, pixels, frame)
    if kind in _COLOUR:
        return stored
    try:
        return in_colour(dataset, stored) if kind not in _GREY else meant(dataset, frame, stored)
    except TableError as error:
        raise refusal("bad-value", file.path, f"{error}.", hint=_EXPORT) from error
