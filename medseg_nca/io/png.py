"""Read PNG: every bit of every sample, out of a stream that is whole.

Pillow cuts colours and grey with alpha of 16 bit to 8, so those are decoded by libpng through
imagecodecs. Neither is asked before the checksums and the packed stream were verified here.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medseg_nca.io.checks import check_claim
from medseg_nca.io.picture import (
    DecodedPicture,
    check_size,
    damaged,
    palette_of,
    several_pictures,
    told_of_palette,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Samples of a pixel, by the colour type of the header.
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = (1, 2, 4, 8, 16)
_PALETTE, _ALPHA = 3, {4, 6}
# First column and row, and steps, of the seven passes of an interlaced picture.
_PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
_PART = 1 << 20


@dataclass
class _PngOutline:
    """What the chunks say."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    data: list[memoryview] = field(default_factory=list)
    frames: int = 1

    @property
    def samples(self) -> int:
        return _SAMPLES[self.colour]

    def stored_bytes(self) -> int:
        """How long the unpacked stream is: rows of whole bytes, a filter byte before each."""
        passes = _PASSES if self.interlaced else ((0, 0, 1, 1),)
        sizes = [
            (math.ceil((self.width - x) / dx), math.ceil((self.height - y) / dy))
            for x, y, dx, dy in passes
        ]
        bits = self.samples * self.depth
        return sum(h * (1 + math.ceil(w * bits / 8)) for w, h in sizes if w > 0 and h > 0)


def read_png(path: Path, content: bytes, *, label: bool) -> DecodedPicture:
    """Read one PNG, grey or colour, 1 to 16 bit.

    Args:
        path: for messages.
        content: of the file.
        label: keep the numbers of a palette picture instead of its colours.

    Raises:
        ImageError: if it is damaged or truncated, or an animation.
    """
    outline = _outline(path, content)
    check_claim(path, (outline.stored_bytes(),), 1, compressed=True)
    pixels = outline.width * outline.height * outline.samples
    check_size(path, pixels * (2 if outline.depth == 16 else 1), bounded=True)
    if outline.frames > 1:
        raise several_pictures(path, f"an animation of {outline.frames} pictures")
    _verify(path, outline)
    return _decode(path, content, outline, label)


def _outline(path: Path, content: bytes) -> _PngOutline:
    """Walk through the chunks; all checksums must be right, and the last chunk there."""
    outline: _PngOutline | None = None
    for kind, body in _chunks(path, content):
        if kind == b"IHDR":
            outline = _header(path, body)
        elif outline is None:
            raise damaged(path, "the file does not begin with its header")
        elif kind == b"IDAT":
            outline.data.append(body)
        elif kind == b"acTL" and len(body) >= 4:
            outline.frames = int.from_bytes(body[:4], "big")
    if outline is None or not outline.data:
        raise damaged(path, "no pixels in it")
    return outline


def _chunks(path: Path, content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, position = memoryview(content), len(SIGNATURE)
    while True:
        if position + 12 > len(content):
            raise damaged(path, "it ends before its last chunk")
        length = int.from_bytes(view[position : position + 4], "big")
        kind = bytes(view[position + 4 : position + 8])
        body, end = view[position + 8 : position + 8 + length], position + 12 + length
        if end > len(content):
            raise damaged(path, f"it ends within the chunk {kind.decode('latin-1')!r}")
        found = int.from_bytes(view[end - 4 : end], "big")
        if zlib.crc32(view[position + 4 : end - 4]) != found:
            raise damaged(path, f"wrong checksum of the chunk {kind.decode('latin-1')!r}")
        yield kind, body
        if kind == b"IEND":
            return
        position = end


def _header(path: Path, body: memoryview) -> _PngOutline:
    if len(body) != 13:
        raise damaged(path, "its header has a wrong length")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
    if not (width and height) or depth not in _DEPTHS or colour not in _SAMPLES:
        raise damaged(path, f"size {width} x {height}, {depth} bit, colour type {colour}")
    return _PngOutline(width, height, depth, colour, bool(interlaced))


def _verify(path: Path, outline: _PngOutline) -> None:
    """Unpack the pixels without keeping them: all must be there, with the checksum at the end."""
    expected, found = outline.stored_bytes(), 0
    stream = zlib.decompressobj()
    try:
        for part in outline.data:
            rest: Any = part
            while rest and not stream.eof and found <= expected:
                found += len(stream.decompress(rest, _PART))
                rest = stream.unconsumed_tail
        while not stream.eof and found <= expected:
            more = stream.decompress(stream.unconsumed_tail, _PART)
            if not more:
                break
            found += len(more)
    except zlib.error as error:
        raise damaged(path, error) from error
    if found < expected or not (stream.eof or found > expected):
        raise damaged(path, f"{found:,} of {expected:,} bytes of pixels")


def _decode(path: Path, content: bytes, outline: _PngOutline, label: bool) -> DecodedPicture:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            colours = outline.colour == _PALETTE and not label
            alpha = outline.colour in _ALPHA or (colours and "transparency" in picture.info)
            if outline.depth == 16:
                array = _wide(content, outline)
            else:
                wanted: Any = picture
                if colours:
                    wanted = picture.convert("RGBA" if alpha else "RGB")
                array = np.asarray(wanted)
            orientation = picture.getexif().get(0x0112, 1)
            told = _told(picture, outline, array) if label else {}
    except (OSError, SyntaxError, ValueError, RuntimeError) as error:
        raise damaged(path, error) from error
    array = array[..., None] if array.ndim == 2 else array
    return DecodedPicture(array, alpha, orientation, told=told)


def _told(picture: Any, outline: _PngOutline, array: Any) -> dict[str, str]:
    """What a reader should know of the numbers of a label map."""
    if outline.colour == _PALETTE:
        return told_of_palette(palette_of(picture), array)
    if outline.colour == 0 and outline.depth in (2, 4):
        step = 255 // (2**outline.depth - 1)
        text = (
            f"is a grey picture of {outline.depth} bit; as PNG has it, its numbers are spread over "
            f"0 to 255 ({step} for 1)."
        )
        return {"few bits": text}
    return {}


def _wide(content: bytes, outline: _PngOutline) -> Any:
    """All 16 bit of every sample; libpng adds an alpha for a colour that is see-through."""
    import imagecodecs

    array = imagecodecs.png_decode(content)
    array = array[..., None] if array.ndim == 2 else array
    return array[..., : outline.samples]
