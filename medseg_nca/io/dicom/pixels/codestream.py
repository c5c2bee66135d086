"""What a packed frame says it is, size and bits, read from its markers before it is decoded.

A decoder takes memory for what the frame says, whatever Rows and Columns say. Markers: JPEG and
JPEG-LS, ITU-T T.81 B.2 and T.87 C.2; JPEG 2000 and HTJ2K, ITU-T T.800 A.5.1.
"""

from __future__ import annotations

import struct

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_SOC = b"\xff\x4f\xff\x51"
# Start of frame: all but those for tables (C4, C8, CC), and F7 of JPEG-LS.
_SOF = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7})
_JP2 = b"\x00\x00\x00\x0cjP  "


def frame_size(data: bytes) -> tuple[int, int, int] | None:
    """Rows, columns, components of a JPEG, JPEG-LS or JPEG 2000 frame; None if it has none.

    A frame in a JP2 box is searched for the codestream within.
    """
    if data[:2] == _SOI:
        return _jpeg_size(data)
    start = _codestream(data)
    if start is None or len(data) < start + 44:
        return None
    right, bottom, left, top = struct.unpack_from(">4L", data, start + 8)
    (components,) = struct.unpack_from(">H", data, start + 40)
    return bottom - top, right - left, components


def frame_precision(data: bytes) -> int | None:
    """Bits of a sample of a JPEG, JPEG-LS or JPEG 2000 frame; None if it has none."""
    if data[:2] == _SOI:
        found = _start_of_frame(data)
        return None if found is None else data[found + 4]
    start = _codestream(data)
    if start is None or len(data) < start + 43:
        return None
    return 1 + (data[start + 42] & 0x7F)


def has_end(data: bytes) -> bool:
    """Whether a JPEG or JPEG-LS frame has its end marker; padding may follow it."""
    return _EOI in data[-64:]


def _codestream(data: bytes) -> int | None:
    """Where the JPEG 2000 codestream starts; None if there is none."""
    start = data.find(_SOC) if data.startswith(_JP2) else 0
    return start if start >= 0 and data[start : start + 4] == _SOC else None


def _jpeg_size(data: bytes) -> tuple[int, int, int] | None:
    found = _start_of_frame(data)
    if found is None:
        return None
    rows, columns, components = struct.unpack_from(">HHB", data, found + 5)
    return rows, columns, components


def _start_of_frame(data: bytes) -> int | None:
    """Where the marker of the frame header lies, in a JPEG or JPEG-LS frame."""
    position = 2
    while position + 10 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # fill
            position += 1
        elif marker in _SOF:
            return position
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
        else:
            position += 2 + int(struct.unpack_from(">H", data, position + 2)[0])
    return None
