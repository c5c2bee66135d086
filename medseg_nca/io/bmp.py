"""Read BMP: the numbers of its palette as they are, and its colours.

Pillow takes some palettes for grey pictures of another depth, and then returns other numbers than
those in the file. So it gets the file with a palette that is surely none of these.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.picture import DecodedPicture, check_size, damaged, told_of_palette

SIGNATURE = b"BM"
# The oldest header, of OS/2, has 12 bytes and stores a colour in three; later ones in four.
_FILE_HEADER, _OLDEST, _SECOND = 14, 12, 40
_NO_GREY = b"\x01\x02\x03"


@dataclass(frozen=True)
class _BmpOutline:
    """What the header says.

    Attributes:
        bits: of a pixel.
        palette: ``(number, 3)``, empty for 16 bit and more.
        place: where the palette begins.
    """

    bits: int
    palette: NDArray[np.uint8]
    place: int


def read_bmp(path: Path, content: bytes, *, label: bool) -> DecodedPicture:
    """Read one BMP.

    Args:
        path: for messages.
        content: of the file.
        label: keep the numbers of a palette instead of its colours.

    Raises:
        ImageError: if it is damaged or truncated.
    """
    from PIL import Image

    try:
        found = _outline(content)
        with Image.open(io.BytesIO(_without_grey(content, found)), formats=("BMP",)) as opened:
            check_size(path, opened.width * opened.height * 4, bounded=False)
            picture: Any = opened
            if picture.mode not in {"P", "RGB", "RGBA"}:
                picture = picture.convert("RGB")
            array = np.asarray(picture)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise damaged(path, error) from error
    if array.ndim == 3:
        return DecodedPicture(array, array.shape[-1] == 4)
    if array.max(initial=0) >= len(found.palette):
        raise damaged(path, f"its palette has {len(found.palette)} colours, and no {array.max()}")
    if label:
        return DecodedPicture(array[..., None], told=told_of_palette(found.palette, array))
    return DecodedPicture(_coloured(found, array))


def _outline(content: bytes) -> _BmpOutline:
    (size,) = struct.unpack_from("<I", content, _FILE_HEADER)
    (bits,) = struct.unpack_from("<H", content, 24 if size == _OLDEST else 28)
    place, entry = _FILE_HEADER + size, 3 if size == _OLDEST else 4
    if bits > 8:
        return _BmpOutline(bits, np.zeros((0, 3), np.uint8), place)
    declared = struct.unpack_from("<I", content, 46)[0] if size >= _SECOND else 0
    (pixels,) = struct.unpack_from("<I", content, 10)
    count = min(declared or 2**bits, 2**bits, (pixels - place) // entry)
    raw = np.frombuffer(content, np.uint8, count * entry, place).reshape(count, entry)
    return _BmpOutline(bits, raw[:, 2::-1], place)


def _without_grey(content: bytes, found: _BmpOutline) -> bytes:
    if not len(found.palette):
        return content
    return content[: found.place] + _NO_GREY + content[found.place + 3 :]


def _coloured(found: _BmpOutline, array: NDArray[Any]) -> NDArray[Any]:
    """Grey where the palette is the usual one of grey pictures, else RGB."""
    colours = found.palette
    grey = bool((colours == colours[:, :1]).all())
    if grey and found.bits == 1 and colours[:, 0].tolist() == [0, 255]:
        return array[..., None]  # as pictures of 1 bit are read in every format
    if grey and np.array_equal(colours[:, 0], np.linspace(0, 255, len(colours)).round()):
        return np.asarray(colours[array][..., :1])
    if grey and np.array_equal(colours[:, 0], np.arange(len(colours))):
        return array[..., None]
    return np.asarray(colours[array])
