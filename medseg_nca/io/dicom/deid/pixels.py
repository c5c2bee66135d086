"""What hides beside the pixels: bytes after the image, comments in the compressed stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

# Marker segments of ISO/IEC 10918-1 table B.1 that say nothing about the pixels: comments and
# application data, except JFIF (APP0), JPEG-LS colour transforms (APP8) and Adobe's (APP14).
_COMMENT = 0xFE
_APPLICATION = {0xE0 + n for n in range(16)} - {0xE0, 0xE8, 0xEE}
_JPEG_START, _JPEG_SCAN = b"\xff\xd8", 0xDA
# ISO/IEC 15444-1 table A.2.
_J2K_START, _J2K_COMMENT, _J2K_TILE = b"\xff\x4f", 0x64, 0x90


def clean_pixels(dataset: Dataset) -> None:
    """Remove, in place, what lies in the pixel data and is no pixel.

    Native pixels are cut to the length that the image has; unused high bits, which may hold an
    overlay, are cleared where an overlay says so. From JPEG, JPEG-LS and JPEG 2000 frames comments
    and application segments are taken; the coded pixels stay bit for bit.
    """
    if "PixelData" not in dataset or not dataset.PixelData:
        return
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        _clean_frames(dataset)
    else:
        _cut(dataset)


def strip_comments(frame: bytes) -> bytes:
    """Return a compressed frame without comments; what is not understood is left as it is."""
    if frame.startswith(_JPEG_START):
        return _without(frame, {_COMMENT, *_APPLICATION}, end=_JPEG_SCAN)
    if frame.startswith(_J2K_START):
        return _without(frame, {_J2K_COMMENT}, end=_J2K_TILE)
    return frame


def _without(frame: bytes, unwanted: set[int], end: int) -> bytes:
    """Copy the marker segments of a header, but the unwanted ones; then the rest."""
    kept = [frame[:2]]
    place = 2
    for marker, start, stop in _segments(frame, end):
        if marker not in unwanted:
            kept.append(frame[start:stop])
        place = stop
    result = b"".join([*kept, frame[place:]])
    return result + b"\0" * (len(result) % 2)


def _segments(frame: bytes, end: int) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment up to the coded data."""
    place = 2
    while place + 4 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        stop = place + 2 + int.from_bytes(frame[place + 2 : place + 4])
        if marker == end or stop > len(frame) or stop < place + 4:
            return
        yield marker, place, stop
        place = stop


def _clean_frames(dataset: Dataset) -> None:
    from pydicom.encaps import encapsulate, generate_frames

    count = int(dataset.get("NumberOfFrames") or 1)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=count))
    cleaned = [strip_comments(frame) for frame in frames]
    # One that is already clean stays as it is, with its fragments and its offset table.
    if any(len(new) != len(old) + len(old) % 2 for new, old in zip(cleaned, frames, strict=True)):
        dataset.PixelData = encapsulate(cleaned)
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            if keyword in dataset:
                delattr(dataset, keyword)


def _cut(dataset: Dataset) -> None:
    from pydicom.pixels.utils import get_expected_length

    length = int(get_expected_length(dataset))
    even = length + length % 2  # big-endian words have their padding before the last pixel
    if 0 < even < len(dataset.PixelData):
        dataset.PixelData = dataset.PixelData[:even]


def hides_overlay(dataset: Dataset) -> bool:
    """Whether an overlay lies in bits of the pixels that the image does not use (retired)."""
    groups = range(0x6000, 0x6020, 2)
    used = (dataset.get((group, 0x0102)) for group in groups)
    return any(element is not None and element.value not in (None, 0) for element in used)


def clear_unused_bits(dataset: Dataset) -> None:
    """Clear, in place, the bits of native pixels outside the stored ones."""
    import numpy as np

    if "PixelData" not in dataset or dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    values = np.frombuffer(dataset.PixelData, f"{order}u{dataset.BitsAllocated // 8}")
    low = int(dataset.HighBit) - int(dataset.BitsStored) + 1
    mask = ((1 << int(dataset.BitsStored)) - 1) << low
    cleared = values & values.dtype.type(mask)
    if dataset.PixelRepresentation == 1 and low == 0:  # the sign goes on into the unused bits
        sign = (cleared >> (int(dataset.BitsStored) - 1)) & 1
        cleared |= (sign * values.dtype.type(~mask & ((1 << dataset.BitsAllocated) - 1))).astype(
            values.dtype
        )
    dataset.PixelData = cleared.astype(values.dtype).tobytes()
