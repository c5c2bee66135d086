"""Compressed frames without what is no pixel: comments, application data, bytes behind the image.

The coded pixels stay bit for bit. Markers: JPEG, ITU-T T.81 B.1; JPEG-LS, T.87; JPEG 2000 and
HTJ2K, T.800 annex A and I; RLE, PS3.5 annex G.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

_JPEG_START, _JPEG_END, _JPEG_SCAN = b"\xff\xd8", 0xD9, 0xDA
_RESTARTS = frozenset(range(0xD0, 0xD8))
# JPEG markers that a decoder needs: frames and tables, arithmetic coding, restart interval, number
# of lines, hierarchy; and the frame and the parameters of JPEG-LS.
_NEEDED = frozenset({*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xF7, 0xF8})
_LOSSLESS, _MODULO_BITS = frozenset({0xC3, 0xC7, 0xCB, 0xCF}), 16
# The lengths of the number of lines, the restart interval and the expansion.
_FIXED = {0xDC: 2, 0xDD: 2, 0xDF: 1}
# Application data that says how colours are coded: by marker, its beginning and its length.
_COLOURS = {0xE0: (b"JFIF\0", 14), 0xE8: (b"mrfx", 5), 0xEE: (b"Adobe", 12)}

_J2K_START, _J2K_END = b"\xff\x4f", b"\xff\xd9"
_J2K_CAPABILITIES, _J2K_TILE, _J2K_DATA = 0x50, 0x90, 0x93
# JPEG 2000 markers that a decoder needs: capabilities, size, coding, quantization, region of
# interest, order, headers of packets. The lists of lengths of tile-parts and packets are left out:
# cleaning may change those lengths, and decoders do not need the lists.
_J2K_NEEDED = frozenset({0x50, 0x51, 0x52, 0x53, 0x59, 0x5C, 0x5D, 0x5E, 0x5F, 0x60, 0x61})
_JP2, _JP2_STREAM = b"\x00\x00\x00\x0cjP  ", b"jp2c"

_RLE_HEADER, _RLE_SEGMENTS = 64, 15


def strip_comments(frame: bytes) -> bytes:
    """Return a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame with nothing but its image.

    Raises:
        ValueError: if it is none of these, or damaged.
    """
    if frame.startswith(_JP2):
        frame = _unboxed(frame)
    if frame.startswith(_JPEG_START):
        return _even(b"".join(_jpeg(frame)))
    if frame.startswith(_J2K_START):
        return _even(b"".join(_j2k(frame)))
    raise ValueError("not a frame of a known kind")


def strip_rle(frame: bytes, length: int, segments: int) -> bytes:
    """Return an RLE frame whose segments end with their last pixel.

    Args:
        frame: with its header of 64 bytes.
        length: decoded bytes of each segment.
        segments: how many the image has: the bytes of a pixel.

    Raises:
        ValueError: if it is damaged.
    """
    if len(frame) < _RLE_HEADER:
        raise ValueError("an RLE frame without header")
    count, *starts = struct.unpack_from("<16L", frame)
    if count != segments or not 0 < count <= _RLE_SEGMENTS:
        raise ValueError("an RLE frame with a strange number of segments")
    kept = [_even(_rle_segment(frame, start, length)) for start in starts[:count]]
    offsets, place = [], _RLE_HEADER
    for segment in kept:
        offsets.append(place)
        place += len(segment)
    offsets += [0] * (_RLE_SEGMENTS - count)
    return struct.pack("<16L", count, *offsets) + b"".join(kept)


def precision(frame: bytes) -> int:
    """How many bits the samples of a JPEG, JPEG-LS or JPEG 2000 frame can have.

    Lossless JPEG adds differences modulo 2^16 (T.81 H.1.2.1), whatever precision it names.

    Raises:
        ValueError: if the frame does not say it.
    """
    if frame.startswith(_J2K_START) and len(frame) > 42:
        components = int.from_bytes(frame[40:42])
        return max((frame[42 + 3 * n] & 0x7F) + 1 for n in range(components))
    for marker, start, _ in _segments(frame, 2):
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}):
            bits = frame[start + 4]
            return _MODULO_BITS if marker in _LOSSLESS and bits > 8 else bits
    raise ValueError("a frame that does not say how many bits it has")


def _even(data: bytes) -> bytes:
    return data + b"\0" * (len(data) % 2)


def _jpeg(frame: bytes) -> Iterator[bytes]:
    yield _JPEG_START
    place = 2
    while True:
        for marker, start, stop in _segments(frame, place):
            place = stop
            yield _kept(marker, frame[start:stop])
            if marker == _JPEG_SCAN:
                break
        else:
            if frame[place : place + 2] == bytes((0xFF, _JPEG_END)):
                yield frame[place : place + 2]
                return
            raise ValueError("a JPEG frame without an end")
        stop = _scan_end(frame, place)
        yield frame[place:stop]
        place = stop


def _kept(marker: int, segment: bytes) -> bytes:
    """A marker segment, shortened to what a decoder looks at; nothing of one that none needs."""
    if marker in _NEEDED:
        if _length_of(marker, segment[4:]) != len(segment) - 4:
            raise ValueError("a frame with a segment that holds more than its tables")
        return segment
    begin, length = _COLOURS.get(marker, (b"", 0))
    content = segment[4 : 4 + length]
    if not begin or not content.startswith(begin) or len(content) < length:
        return b""
    if marker == 0xE0:  # without the small picture
        content = content[:12] + b"\0\0"
    return segment[:2] + (2 + len(content)).to_bytes(2) + content


def _length_of(marker: int, content: bytes) -> int:
    """How long the content of a needed segment is by what stands in it; -1 if that is strange."""
    try:
        if marker in _FIXED:
            return _FIXED[marker]
        if marker == 0xDA:
            return 4 + 2 * content[0]
        if marker == 0xDB:
            return _tables(content, lambda at: 129 if content[at] >> 4 else 65)
        if marker == 0xC4:
            return _tables(content, lambda at: 17 + sum(content[at + 1 : at + 17]))
        if marker == 0xF8:  # parameters; tables that map colours, and their continuation
            return {1: 11}.get(content[0], len(content) if content[0] in {2, 3, 4} else -1)
        if marker == 0xCC:
            return len(content) - len(content) % 2
        return 6 + 3 * content[5]
    except IndexError:
        return -1


def _tables(content: bytes, length: Callable[[int], int]) -> int:
    """Where the last of several tables ends."""
    place = 0
    while place < len(content):
        place += length(place)
    return place


def _segments(frame: bytes, place: int) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment from a place on, up to the end of the image."""
    while place + 4 <= len(frame):
        if frame[place] != 0xFF:
            raise ValueError("a frame with something else than a marker")
        marker = frame[place + 1]
        if marker == 0xFF:  # fill
            place += 1
            continue
        if marker == _JPEG_END:
            return
        stop = place + 2 + int.from_bytes(frame[place + 2 : place + 4])
        if stop > len(frame) or stop < place + 4:
            raise ValueError("a frame with a segment longer than itself")
        yield marker, place, stop
        place = stop


def _scan_end(frame: bytes, place: int) -> int:
    """Where the coded data ends, that is where the next marker is."""
    while (place := frame.find(b"\xff", place)) >= 0 and place + 1 < len(frame):
        after = frame[place + 1]
        if after >= 0x80 and after not in _RESTARTS and after != 0xFF:
            return place
        place += 1
    raise ValueError("a JPEG frame without an end")


def _unboxed(frame: bytes) -> bytes:
    """The codestream of a JP2 file; the header of the data set says what its boxes do."""
    place = 0
    while place + 8 <= len(frame):
        length, kind = int.from_bytes(frame[place : place + 4]), frame[place + 4 : place + 8]
        header = 8
        if length == 1:
            length, header = int.from_bytes(frame[place + 8 : place + 16]), 16
        stop = place + length if length else len(frame)
        if kind == _JP2_STREAM:
            return frame[place + header : stop]
        if stop <= place:
            break
        place = stop
    raise ValueError("a JP2 file without an image")


def _j2k(frame: bytes) -> Iterator[bytes]:
    yield _J2K_START
    place = 2
    for marker, start, stop in _j2k_segments(frame, 2, _J2K_TILE):
        place = stop
        if marker == _J2K_CAPABILITIES:  # one word for each bit that is set
            words = int.from_bytes(frame[start + 4 : start + 8]).bit_count()
            if stop - start != 8 + 2 * words:
                raise ValueError("a JPEG 2000 frame with strange capabilities")
        if marker in _J2K_NEEDED:
            yield frame[start:stop]
    while frame[place : place + 2] == bytes((0xFF, _J2K_TILE)):
        length = int.from_bytes(frame[place + 6 : place + 10])
        end = place + length if length else frame.find(_J2K_END, place)
        if end <= place or end > len(frame):
            raise ValueError("a JPEG 2000 frame with a cut tile")
        yield _tile_part(frame[place:end], known=bool(length))
        place = end
    if frame[place : place + 2] != _J2K_END:
        raise ValueError("a JPEG 2000 frame without an end")
    yield _J2K_END


def _tile_part(part: bytes, *, known: bool) -> bytes:
    """A tile-part with what is needed in its header, and its length as it then is."""
    kept, place = [], 12
    for marker, start, stop in _j2k_segments(part, 12, _J2K_DATA):
        place = stop
        if marker in _J2K_NEEDED:
            kept.append(part[start:stop])
    body = b"".join([*kept, part[place:]])
    length = 12 + len(body) if known else 0
    return part[:6] + length.to_bytes(4) + part[10:12] + body


def _j2k_segments(data: bytes, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment up to a marker."""
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == end:
            return
        stop = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        if stop > len(data) or stop < place + 4:
            break
        yield marker, place, stop
        place = stop
    if data[place : place + 2] != bytes((0xFF, end)):
        raise ValueError("a JPEG 2000 frame with a strange header")


def _rle_segment(frame: bytes, start: int, length: int) -> bytes:
    """The bytes of a segment that decode to so many bytes."""
    place, done, kept = start, 0, start
    while done < length:
        if place >= len(frame):
            raise ValueError("an RLE frame that ends too early")
        run = frame[place]
        if run < 128:
            if done + run + 1 > length:  # pixels that the image does not have
                rest = length - done
                whole = frame[kept:place] + bytes((rest - 1,)) + frame[place + 1 :][:rest]
                return whole
            done, place = done + run + 1, place + run + 2
        elif run > 128:
            if done + 257 - run > length:
                return frame[kept:place] + bytes((257 - (length - done),)) + frame[place + 1 :][:1]
            done, place = done + 257 - run, place + 2
        else:
            place += 1
    if place > len(frame):
        raise ValueError("an RLE frame that ends too early")
    return frame[kept:place]
