"""Read pictures: PNG, JPEG, BMP and TIFF, told by their content, whatever the name says.

The array's axes are (x, y) = (column, row) of the picture as it is shown, the affine is the
identity: a pixel is 1 mm wide, as these formats seldom say what it measures; x runs along the rows
of the picture and y down its columns. The pages of a TIFF are z.

All bits and all pictures of a file are accounted for, or it is refused.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from medseg_nca.errors import ImageError
from medseg_nca.io.bmp import SIGNATURE as BMP
from medseg_nca.io.bmp import read_bmp
from medseg_nca.io.content import describe
from medseg_nca.io.jpeg import read_jpeg
from medseg_nca.io.jpeg_markers import SIGNATURE as JPEG
from medseg_nca.io.picture import (
    PLAIN_PILLOW,
    DecodedPicture,
    as_volume,
    check_size,
    damaged,
    is_lossless_webp,
    lossy_label,
    palette_of,
    several_pictures,
    told_of_palette,
)
from medseg_nca.io.png import SIGNATURE as PNG
from medseg_nca.io.png import read_png
from medseg_nca.io.tiff import SIGNATURES as TIFF
from medseg_nca.io.tiff import read_tiff
from medseg_nca.io.volume import Volume

# What Pillow reads whole: 8 bit each.
_OTHERS = ("GIF", "WEBP")
_GIF_END = b";"
_KNOWN = "PNG, JPEG, BMP, TIFF, and single pictures of GIF and WebP"


def read_raster(path: Path, *, label: bool = False) -> Volume:
    """Read one picture: grey ``(1, x, y)`` or colour ``(3, x, y)``; or the pages of a TIFF.

    Args:
        path: the file; its content decides what it is.
        label: it is a label map, so its numbers count: those of a palette instead of its colours,
            and none that were packed with loss.

    Raises:
        ImageError: if it is damaged or truncated, holds several pictures or bits that cannot all
            be read, has a transparency that is not constant, or is a label map packed with loss.
    """
    return as_volume(path, read_picture(path, label=label))


def read_picture(path: Path, *, label: bool = False) -> DecodedPicture:
    """Read one picture as it lies in the file, with its alpha.

    Args:
        path: the file; its content decides what it is.
        label: see :func:`read_raster`.

    Raises:
        ImageError: as :func:`read_raster`, but for the transparency.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(TIFF):
        return read_tiff(path, label=label)
    content = path.read_bytes()
    with PLAIN_PILLOW.held():
        if start.startswith(PNG):
            return read_png(path, content, label=label)
        if start.startswith(JPEG):
            return read_jpeg(path, content, label=label)
        if start.startswith(BMP):
            return read_bmp(path, content, label=label)
        return _read_other(path, content, label)


def _read_other(path: Path, content: bytes, label: bool) -> DecodedPicture:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.format not in _OTHERS:
                raise ImageError(
                    f"{path}: holds a picture of the format {picture.format}.",
                    hint=f"These can be read, under any of their names: {_KNOWN}.",
                )
            if picture.format == "GIF" and not content.rstrip(b"\0").endswith(_GIF_END):
                raise damaged(path, "it ends before its end marker")
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                raise several_pictures(path, f"{frames} pictures ({picture.format})")
            check_size(path, picture.width * picture.height * 4, bounded=False)
            if label and picture.format == "WEBP" and not is_lossless_webp(content):
                raise lossy_label(path, "WebP")
            return _decoded(picture, label)
    except UnidentifiedImageError as error:
        what = describe(path)
        if what is not None:
            raise ImageError(
                f"{path}: is {what}, whatever its name says.",
                hint="Give it the name of its format, or save it as a picture.",
            ) from error
        raise damaged(path, "it does not begin like a picture of a known format") from error
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise damaged(path, error) from error


def _decoded(picture: Any, label: bool) -> DecodedPicture:
    orientation = picture.getexif().get(0x0112, 1)
    if picture.mode == "P" and not label:
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    elif picture.mode not in {"1", "L", "P", "RGB", "RGBA", "LA"}:
        picture = picture.convert("RGBA" if "A" in picture.getbands() else "RGB")
    array = np.asarray(picture)
    told = told_of_palette(palette_of(picture), array) if picture.mode == "P" else {}
    array = array[..., None] if array.ndim == 2 else array
    return DecodedPicture(array, "A" in picture.getbands(), orientation, told=told)
