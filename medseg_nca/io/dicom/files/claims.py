"""Compare what a header claims about its pixels with what the file holds, before reading them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_nca.io.checks import MAX_BYTES
from medseg_nca.io.dicom.files.attributes import tag_of
from medseg_nca.io.dicom.files.data import OpenDataSet
from medseg_nca.io.dicom.files.elements import Elements
from medseg_nca.io.dicom.files.places import Pixels
from medseg_nca.io.dicom.problems import DicomError, damaged, too_large, truncated

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# The most bytes of a frame: 16,384 x 16,384 pixels of 16 bits, several times a mammogram. Slides
# are not read here.
MAX_FRAME_BYTES = 2**29
_BITS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
_LIMITS = {"Rows": 65535, "Columns": 65535, "SamplesPerPixel": 4, "BitsAllocated": 64}
_FRAME_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")


def count_frames(dataset: Dataset) -> int:
    """NumberOfFrames, 1 where it is absent or empty."""
    return int(dataset.get("NumberOfFrames") or 1)


def check_claims(path: Path, header: Elements, pixels: Pixels, source: OpenDataSet) -> None:
    """Refuse pixels that are fewer than claimed, or absurdly many.

    Args:
        path: for messages.
        header: its elements.
        pixels: where its pixel data is.
        source: holds the pixel data.

    Raises:
        DicomError: ``damaged`` if a tag is missing or impossible, ``too-large``, ``truncated``.
    """
    rows, columns, samples, bits = (
        _number(path, header, keyword, limit, pixels) for keyword, limit in _LIMITS.items()
    )
    frames = _number(path, header, "NumberOfFrames", 2**31 - 1, pixels)
    frame_bits = rows * columns * samples * bits
    colour = header.texts(tag_of("PhotometricInterpretation"))
    if colour == ("YBR_FULL_422",) and pixels.fragments is None:
        frame_bits = frame_bits * 2 // 3  # two chroma samples for two pixels (PS3.3 C.7.6.3.1.2)
    claim = f"{frames} x {rows} x {columns} pixels of {samples} x {bits} bits"
    total = math.ceil(frames * frame_bits / 8)
    if frame_bits > 8 * MAX_FRAME_BYTES or total > MAX_BYTES:
        raise too_large(
            path,
            f"the header claims {claim}; at most {MAX_FRAME_BYTES:,} bytes a frame and "
            f"{MAX_BYTES:,} in all can be read.",
        )
    if pixels.fragments is None:
        whole = source.holds(pixels.end)  # inflates deflated data, so that its size is known
        held = min(pixels.end, source.size) - pixels.element.value
        if held < total or not whole:
            raise truncated(
                path, f"the header claims {claim}, {total:,} bytes; {held:,} of them are there."
            )
        there = 8 * held // frame_bits
        if there > frames and (held - math.ceil(there * frame_bits / 8)) in (0, held % 2):
            raise _more_frames(path, frames, there)
    elif len(pixels.fragments) - 1 < frames:
        held = max(len(pixels.fragments) - 1, 0)
        raise truncated(path, f"the header claims {frames} frames; {held} of them are there.")
    elif len(pixels.fragments) - 1 > frames:
        there = _count_packed(pixels, source)
        if there > frames:
            raise _more_frames(path, frames, there)


def _count_packed(pixels: Pixels, source: OpenDataSet) -> int:
    """How many packed frames there are where frames may lie in several fragments."""
    fragments = (pixels.fragments or ())[1:]
    return sum(_starts_frame(source.read(start, min(length, 16))) for start, length in fragments)


def _starts_frame(head: bytes) -> bool:
    """Whether a fragment starts as a frame: JPEG, JPEG-LS, JPEG 2000, or RLE (PS3.5 G.5)."""
    if head.startswith(_FRAME_STARTS):
        return True
    return len(head) == 16 and 1 <= head[0] <= 15 and head[1:8] == b"\0\0\0\x40\0\0\0"


def _more_frames(path: Path, claimed: int, there: int) -> DicomError:
    return damaged(path, f"the header claims {claimed} frames, and there are {there}.")


def _number(path: Path, header: Elements, keyword: str, limit: int, pixels: Pixels) -> int:
    from medseg_nca.io.dicom.files.layout import PIXELS

    value = header.value(tag_of(keyword))
    if keyword == "BitsAllocated":
        value = _BITS.get(PIXELS[pixels.element.tag], value)
    if keyword in ("SamplesPerPixel", "NumberOfFrames") and value is None:
        return 1
    if not isinstance(value, int) or not 1 <= value <= limit:
        state = "is missing" if value is None else "has a value that no image can have"
        raise damaged(path, f"{keyword} {state}.")
    return int(value)
