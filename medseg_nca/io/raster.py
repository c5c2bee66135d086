"""Read PNG, JPEG and BMP with Pillow and TIFF with tifffile.

The array's axes are (x, y) = (column, row), the affine is the identity: a pixel is 1 mm wide, as
these formats seldom say what it measures, x runs along the rows of the picture and y down its
columns. The pages of a TIFF are z.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import DAMAGED, check_claim
from medseg_nca.io.volume import Volume

# Pillow's modes that numpy takes over as they are; "P" holds indices into a palette.
_DIRECT = {"1", "L", "I", "F", "RGB", "RGBA", "LA", "I;16", "I;16B", "I;16L"}
_WITH_ALPHA = {2, 4}


def read_raster(path: Path, *, indices: bool = False) -> Volume:
    """Read one picture: grey ``(1, x, y)`` or colour ``(3, x, y)``, 8 or 16 bit.

    Args:
        path: a PNG, JPEG or BMP file.
        indices: keep the numbers of a palette picture instead of its colours; label maps are
            often stored so.

    Raises:
        ImageError: if it is damaged or truncated, or has a transparency that is not constant.
    """
    from PIL import Image

    try:
        # Our own limit on the size stands in check_claim.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture: Any = Image.open(path)
        with picture:
            check_claim(path, picture.size, 1, compressed=True)
            if picture.mode == "P" and not indices:
                picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
            elif picture.mode not in {*_DIRECT, "P"}:
                picture = picture.convert("RGBA" if "A" in picture.getbands() else "RGB")
            array = np.asarray(picture)
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise _damaged(path, error) from error
    array = array[..., None] if array.ndim == 2 else array
    return _volume(path, _without_alpha(path, array).transpose(2, 1, 0))


def read_tiff(path: Path) -> Volume:
    """Read one TIFF: a picture as :func:`read_raster` does, or pages as ``(1, x, y, page)``.

    Raises:
        ImageError: if it is damaged or truncated, or its axes cannot be understood.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            if series.nbytes is not None:
                check_claim(path, (series.nbytes,), 1, compressed=True)
            _check_pages(path, file)
            axes, array = series.axes, series.asarray()
    except (tifffile.TiffFileError, OSError, EOFError, IndexError, KeyError) as error:
        raise _damaged(path, error) from error
    except ValueError as error:
        if "imagecodecs" in str(error):  # a compression that tifffile leaves to another package
            return read_raster(path)
        raise _damaged(path, error) from error
    return _volume(path, _tiff_axes(path, array, axes))


def _check_pages(path: Path, file: Any) -> None:
    """Every page's data must lie inside the file: tifffile fills what is missing with zeros."""
    size = path.stat().st_size
    for page in file.pages:
        ends = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False))
        if max(ends, default=0) > size:
            raise EOFError(f"a page ends at byte {max(ends, default=size + 1):,} of {size:,}")


def _tiff_axes(path: Path, array: NDArray[Any], axes: str) -> NDArray[Any]:
    """Sort tifffile's axes into (C, x, y[, z])."""
    kept = [k for k, n in enumerate(array.shape) if n > 1 or axes[k] in "YX"]
    array, axes = array.reshape([array.shape[k] for k in kept]), "".join(axes[k] for k in kept)
    channel = next((k for k, name in enumerate(axes) if name in "SC"), None)
    if channel is not None:
        array = np.moveaxis(array, channel, -1)
        if axes[channel] == "S":
            array = _without_alpha(path, array)
    else:
        array = array[..., None]
    rest = axes.replace("S", "").replace("C", "")
    if rest == "YX":
        return array.transpose(2, 1, 0)
    if len(rest) == 3 and rest.endswith("YX"):
        return array.transpose(3, 2, 1, 0)
    raise ImageError(
        f"{path}: has the TIFF axes {axes}; a picture (YX, YXS) or a stack of pages can be read."
    )


def _without_alpha(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    """Drop a transparency that is the same everywhere; ``(row, column, bands)``."""
    if array.shape[-1] not in _WITH_ALPHA:
        return array
    alpha = array[..., -1]
    if (alpha == alpha.flat[0]).all():
        return array[..., :-1]
    raise ImageError(
        f"{path}: has an alpha channel that varies, so its colours depend on what lies behind.",
        hint="Save the picture without transparency.",
    )


def _volume(path: Path, array: NDArray[Any]) -> Volume:
    array = array.astype(np.uint8) if array.dtype == np.bool_ else array
    return Volume(np.ascontiguousarray(array), np.eye(4), (path,))


def _damaged(path: Path, error: BaseException) -> ImageError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return ImageError(
        f"{path}: cannot be read, it is damaged or truncated ({reason}).", hint=DAMAGED
    )
