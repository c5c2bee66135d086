"""Read JPEG: one whole picture, with all its bits.

libjpeg fills what is missing with grey and only warns, which no binding passes on. So the file is
decoded a second time with more data before its end: that changes nothing in a picture that is
whole.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.picture import (
    Picture,
    check_size,
    damaged,
    lossy_label,
    several_pictures,
)

SIGNATURE = b"\xff\xd8\xff"
# Markers that begin a frame; 0xC3, 0xC7, 0xCB and 0xCF are without loss.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_LOSSLESS = {0xC3, 0xC7, 0xCB, 0xCF}
_ALONE = {0x01, *range(0xD0, 0xD8)}
_END, _SCAN, _APP1 = 0xD9, 0xDA, 0xE1
# Packed data end at a marker that is neither a stuffed byte nor a restart.
_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
# No 0xFF in it, so that all of it is packed data; any other numbers would do.
JUNK = bytes((37 * k * k + 11 * k + 85) % 255 for k in range(96))
# What a camera adds to a picture: the same, smaller.
_PREVIEW = "Large Thumbnail"


@dataclass(frozen=True)
class Outline:
    """What the markers say.

    Attributes:
        lossless: whether the numbers are those that were packed.
        precision: bits of a sample.
        width, height, components: of the picture.
        data_end: where the packed data end.
        end: where the picture ends in the file.
        exif: the first such block, b"" if there is none.
    """

    lossless: bool
    precision: int
    width: int
    height: int
    components: int
    data_end: int
    end: int
    exif: bytes = b""


def outline(content: bytes) -> Outline:
    """Walk through the markers of a JPEG stream.

    Raises:
        ValueError: if it ends before its end marker, or has no picture.
    """
    position, data_end, exif = 2, 0, b""
    frame: tuple[int, bytes] | None = None
    while True:
        while content[position : position + 2] == b"\xff\xff":
            position += 1
        if len(content) < position + 2:
            raise ValueError("it ends before its end marker")
        if content[position] != 0xFF:
            raise ValueError(f"no marker at byte {position:,}")
        marker = content[position + 1]
        if marker == _END:
            break
        if marker in _ALONE:
            position += 2
            continue
        body = content[position + 4 : position + 2 + _length(content, position)]
        position += 2 + _length(content, position)
        if marker in _FRAMES and frame is None:
            frame = (marker, body)
        elif marker == _APP1 and body.startswith(b"Exif\x00\x00"):
            exif = exif or body
        elif marker == _SCAN:
            found = _AFTER_SCAN.search(content, position)
            if found is None:
                raise ValueError("it ends before its end marker")
            position = data_end = found.start()
    if frame is None or len(frame[1]) < 6 or not data_end:
        raise ValueError("no picture in it")
    marker, body = frame
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    return Outline(
        marker in _LOSSLESS, body[0], width, height, body[5], data_end, position + 2, exif
    )


def with_junk(content: bytes, found: Outline) -> bytes:
    """The stream with more data before its end."""
    return content[: found.data_end] + JUNK + content[found.data_end :]


def read_jpeg(path: Path, content: bytes, *, label: bool) -> Picture:
    """Read one JPEG, grey or colour, 8 bit; without loss, or of 12 bit, up to 16.

    Raises:
        ImageError: if it is damaged or truncated, holds several pictures, or is a label map that
            was packed with loss.
    """
    try:
        found = outline(content)
    except ValueError as error:
        raise damaged(path, error) from error
    size = found.width * found.height * found.components
    check_size(path, size * (1 if found.precision <= 8 else 2), bounded=False)
    if label and not found.lossless:
        raise lossy_label(path, "JPEG")
    if found.lossless or found.precision != 8:
        return _deep(path, content, found)
    return _usual(path, content, found)


def _length(content: bytes, position: int) -> int:
    length = int.from_bytes(content[position + 2 : position + 4], "big")
    if length < 2 or position + 2 + length > len(content):
        raise ValueError("it ends before its end marker")
    return length


def _usual(path: Path, content: bytes, found: Outline) -> Picture:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "MPO")) as picture:
            _only_one(path, picture, content, found)
            array = _pixels(picture)
            orientation = picture.getexif().get(0x0112, 1)
        with Image.open(io.BytesIO(with_junk(content, found)), formats=("JPEG", "MPO")) as other:
            whole = np.array_equal(array, _pixels(other))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise damaged(path, error) from error
    if not whole:
        raise damaged(path, "the data end before the picture does")
    return Picture(array, orientation=orientation)


def _pixels(picture: Any) -> NDArray[Any]:
    """Grey or RGB; the printing colours of some JPEGs are converted as Pillow does."""
    array = np.asarray(picture if picture.mode in {"L", "RGB"} else picture.convert("RGB"))
    return array[..., None] if array.ndim == 2 else array


def _only_one(path: Path, picture: Any, content: bytes, found: Outline) -> None:
    """Previews and the gain map of a screen with more contrast show the same; others do not."""
    if picture.format == "MPO":
        entries = (picture.mpinfo or {}).get(0xB002, ())
        kinds = [str(entry["Attribute"]["MPType"]) for entry in entries[1:]]
        if not all(kind.startswith(_PREVIEW) for kind in kinds):
            raise several_pictures(path, f"{1 + len(kinds)} pictures (MPO)")
    elif content[found.end : found.end + 4096].lstrip(b"\x00").startswith(SIGNATURE) and (
        b"hdrgm" not in content[: found.end]
    ):
        raise several_pictures(path, "another picture behind the first")


def _deep(path: Path, content: bytes, found: Outline) -> Picture:
    """More than 8 bit, or without loss: Pillow reads neither."""
    import imagecodecs
    from PIL import Image

    try:
        array = imagecodecs.jpeg_decode(content)
        whole = np.array_equal(array, imagecodecs.jpeg_decode(with_junk(content, found)))
    except (RuntimeError, ValueError) as error:
        raise ImageError(
            f"{path}: is a JPEG of {found.precision} bit "
            f"{'without' if found.lossless else 'with'} loss, which cannot be read "
            f"({str(error).strip() or type(error).__name__}).",
            hint="Save it as PNG or TIFF.",
        ) from error
    expected = math.prod((found.height, found.width, found.components))
    if not whole or array.size != expected:
        raise damaged(path, "the data end before the picture does")
    exif = Image.Exif()
    exif.load(found.exif)
    array = array[..., None] if array.ndim == 2 else array
    return Picture(array, orientation=exif.get(0x0112, 1))
