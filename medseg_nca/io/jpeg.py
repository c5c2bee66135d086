"""Read JPEG: one whole picture, with all its bits.

libjpeg fills what is missing with grey and only warns, which no binding passes on. So the markers
are counted first, and the file is decoded a second time with more data before each end: that
changes nothing in a picture that is whole.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.jpeg_markers import SIGNATURE, Outline, outline, with_junk
from medseg_nca.io.picture import (
    DecodedPicture,
    check_size,
    damaged,
    lossy_label,
    several_pictures,
)

# How Pillow names the smaller copy that a camera adds to a picture.
_PREVIEW = "Large Thumbnail"


def read_jpeg(path: Path, content: bytes, *, label: bool) -> DecodedPicture:
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


def _usual(path: Path, content: bytes, found: Outline) -> DecodedPicture:
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
    return DecodedPicture(array, orientation=orientation)


def _pixels(picture: Any) -> NDArray[Any]:
    """Grey or RGB; the printing colours of some JPEGs are converted as Pillow does."""
    array = np.asarray(picture if picture.mode in {"L", "RGB"} else picture.convert("RGB"))
    return array[..., None] if array.ndim == 2 else array


def _only_one(path: Path, picture: Any, content: bytes, found: Outline) -> None:
    """Refuse several pictures; previews and the gain map for screens of high contrast are none."""
    if picture.format == "MPO":
        entries = (picture.mpinfo or {}).get(0xB002, ())
        kinds = [str(entry["Attribute"]["MPType"]) for entry in entries[1:]]
        if not all(kind.startswith(_PREVIEW) for kind in kinds):
            raise several_pictures(path, f"{1 + len(kinds)} pictures (MPO)")
    elif content[found.end : found.end + 4096].lstrip(b"\x00").startswith(SIGNATURE) and (
        b"hdrgm" not in content[: found.end]
    ):
        raise several_pictures(path, "another picture behind the first")


def _deep(path: Path, content: bytes, found: Outline) -> DecodedPicture:
    """Decode a picture of more than 8 bit, or one packed without loss: Pillow reads neither."""
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
    return DecodedPicture(array, orientation=exif.get(0x0112, 1))
