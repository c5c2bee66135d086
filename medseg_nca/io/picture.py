"""What the readers of pictures share: how a picture is shown, its alpha, how large it may be.

A picture's file may say that it is to be shown turned or mirrored (EXIF and TIFF call it
Orientation). Images and label maps are both read as they are shown, whatever the layout in the
file; so a result, which is written without such a tag, lies on its picture in every viewer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import DAMAGED, MAX_BYTES
from medseg_nca.io.held import Held, Restore
from medseg_nca.io.volume import Volume

logger = logging.getLogger(__name__)

# Some codecs pack without a bound (G4, JPEG, Zstandard, WebP): a small file may become 2 GiB.
MAX_UNBOUNDED = 2**31
UPRIGHT = 1
_ROWS = 64  # of a large picture that fit into the processor's cache

Array = NDArray[Any]


def _turned(array: Array) -> Array:
    """Rows become columns."""
    return array.swapaxes(-3, -2)


# From the layout in the file to how it is shown; the axes are (..., row, column, band).
_SHOWN: dict[int, Callable[[Array], Array]] = {
    2: lambda array: array[..., :, ::-1, :],
    3: lambda array: array[..., ::-1, ::-1, :],
    4: lambda array: array[..., ::-1, :, :],
    5: _turned,
    6: lambda array: _turned(array)[..., :, ::-1, :],
    7: lambda array: _turned(array)[..., ::-1, ::-1, :],
    8: lambda array: _turned(array)[..., ::-1, :, :],
}


@dataclass(frozen=True)
class DecodedPicture:
    """Decoded pixels, as they lie in the file.

    Attributes:
        array: ``([page,] row, column, band)``.
        alpha: whether the last band says how transparent a pixel is.
        orientation: 1 to 8, as EXIF and TIFF count; any other number means as stored.
        pixel_size: in words, where the file tells it; pixels are counted as 1 mm all the same.
        told: what a reader of the numbers should know, by kind.
    """

    array: Array
    alpha: bool = False
    orientation: int = UPRIGHT
    pixel_size: str | None = None
    told: Mapping[str, str] = field(default_factory=dict)


def as_volume(path: Path, picture: DecodedPicture) -> Volume:
    """Turn a picture to how it is shown, without its alpha: ``(C, x, y[, page])``.

    Raises:
        ImageError: if the alpha is not the same everywhere.
    """
    array = _without_alpha(path, picture.array) if picture.alpha else picture.array
    array = array.astype(np.uint8) if array.dtype == np.bool_ else array
    turn = _SHOWN.get(picture.orientation)
    shown = array if turn is None else turn(array)
    for kind, text in picture.told.items():
        _tell_once(kind, f"{path}: {text} Other such files are read likewise.")
    about = {
        "orientation": picture.orientation if picture.orientation in _SHOWN else UPRIGHT,
        "pixel_size": picture.pixel_size,
        "told": tuple(picture.told.values()),
    }
    return Volume(_columns_first(shown), np.eye(4), (path,), {"picture": about})


def rgba_of(path: Path, picture: DecodedPicture) -> NDArray[np.float32] | None:
    """Red, green, blue and alpha of a picture as it is shown, ``(4, x, y)`` from 0 to 1.

    None if it has no alpha. Grey becomes red, green and blue alike.

    Raises:
        ImageError: if it has several pages, or its numbers are no unsigned integers.
    """
    if not picture.alpha:
        return None
    array = picture.array
    if array.ndim != 3 or array.dtype.kind != "u":
        raise ImageError(
            f"{path}: holds {array.dtype} on {array.ndim - 1} axes; one picture of 8 or 16 bit is "
            "needed."
        )
    turn = _SHOWN.get(picture.orientation)
    shown = array if turn is None else turn(array)
    values = shown.astype(np.float32) / np.iinfo(array.dtype).max
    if values.shape[-1] == 2:
        values = values[..., [0, 0, 0, 1]]
    return np.ascontiguousarray(values.T)


def _columns_first(shown: Array) -> Array:
    """``([page,] row, column, band)`` to ``(band, column, row[, page])``, in order in memory.

    A few rows at a time: that is three times as fast for large pictures, as they stay in the cache.
    """
    turned = shown.T
    if turned.ndim > 3:
        return np.ascontiguousarray(turned)
    array = np.empty(turned.shape, turned.dtype)
    for row in range(0, len(shown), _ROWS):
        array[..., row : row + _ROWS] = turned[..., row : row + _ROWS]
    return array


def check_size(path: Path, in_memory: int, *, bounded: bool) -> None:
    """Refuse a picture whose header claims more memory than its file can be trusted to fill.

    Args:
        path: the file.
        in_memory: bytes of the decoded pixels.
        bounded: whether the packed size was already compared with what the codec can do.

    Raises:
        ImageError: with what is claimed.
    """
    most = MAX_BYTES if bounded else max(MAX_UNBOUNDED, 32 * path.stat().st_size)
    if in_memory > min(most, MAX_BYTES):
        raise ImageError(
            f"{path}: the header claims {in_memory:,} bytes of pixels, and the file has "
            f"{path.stat().st_size:,}; at most {min(most, MAX_BYTES):,} can be read of such a file."
        )


def damaged(path: Path, reason: object) -> ImageError:
    """What to raise where a picture did not decode whole."""
    text = (str(reason).strip() or type(reason).__name__).splitlines()[0].rstrip(". ")
    return ImageError(f"{path}: cannot be read, it is damaged or truncated ({text}).", hint=DAMAGED)


def lossy_label(path: Path, codec: str, *, certain: bool = True) -> ImageError:
    """What to raise where the numbers of a label map were, or may have been, packed with loss."""
    how = "is packed with loss" if certain else "may be packed with loss"
    return ImageError(
        f"{path}: {how} ({codec}), and then the numbers in it are no longer those of the labels.",
        hint="Export the label map again as PNG, TIFF or NIfTI; what was lost cannot be restored.",
    )


def palette_of(picture: Any) -> Array:
    """The colours of a Pillow picture of the mode P: ``(number, 3)``."""
    return np.asarray(picture.getpalette("RGB") or (), np.uint8).reshape(-1, 3)


def is_lossless_webp(data: bytes) -> bool:
    """Whether a WebP picture holds the very numbers that were packed."""
    place = 12
    while place + 8 <= len(data):
        kind = data[place : place + 4]
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8L"
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return False


def told_of_palette(colours: Array, numbers: Array) -> dict[str, str]:
    """Say so if a label map of two numbers shows 0 in a colour and the other number as black.

    Args:
        colours: ``(number, 3)``.
        numbers: of the label map, any shape.
    """
    used = np.unique(numbers)
    if len(used) != 2 or used[0] != 0 or used[1] >= len(colours):
        return {}
    if not colours[0].any() or colours[used[1]].any():
        return {}
    text = (
        f"is a label map whose palette shows {used[1]} in black, and 0 not; its numbers are taken "
        "as they are stored, so 0 is the background."
    )
    return {"palette": text}


def several_pictures(path: Path, what: str) -> ImageError:
    """What to raise where a file holds more than the one picture that would be read."""
    return ImageError(f"{path}: holds {what}; one picture a file can be read.", hint=SPLIT)


SPLIT = "Save the pictures as one file each."
_told: set[str] = set()


def warn_anew() -> None:
    """Forget which warnings were given: the next file that deserves one is warned of again.

    For processes that live long, where another piece of work begins.
    """
    _told.clear()


def _tell_once(kind: str, message: str) -> None:
    """Warn, once in a process for each kind, of what may be the same in hundreds of files."""
    if kind not in _told:
        _told.add(kind)
        logger.warning("%s", message)


def _make_pillow_plain() -> Restore:
    from PIL import Image, ImageFile

    before = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
    ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, None

    def restore() -> None:
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = before

    return restore


# Pillow without two settings of the process. Other code can tell it to fill up what is missing: not
# here. And its limit on the size calls large pictures attacks; ours, check_size, looks at the file.
PLAIN_PILLOW = Held(_make_pillow_plain)


def _without_alpha(path: Path, array: Array) -> Array:
    """Drop a transparency that is the same everywhere."""
    alpha = array[..., -1]
    if (alpha == alpha.flat[0]).all():
        return array[..., :-1]
    raise ImageError(
        f"{path}: has an alpha channel that varies, so its colours depend on what lies behind.",
        hint="Save the picture without transparency.",
    )
