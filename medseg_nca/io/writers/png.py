"""PNG, 8 or 16 bit, grey or RGB: label maps carry the label numbers as grey values."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg_nca.errors import OutputError
from medseg_nca.io.volume import Volume
from medseg_nca.io.writers.base import Writer


def _write(volume: Volume, path: Path) -> None:
    from PIL import Image

    array = volume.array
    if array.dtype not in (np.uint8, np.uint16) and not _fits(volume):
        raise OutputError(
            f"{path.name}: PNG holds whole numbers from 0 to 65535, not {array.dtype}.",
            hint="Use .tiff.",
        )
    if array.dtype.itemsize > 2 or array.dtype.kind == "i":
        array = array.astype(np.uint16)
    if array.shape[0] == 1:
        picture = Image.fromarray(np.ascontiguousarray(array[0].T))
    elif array.shape[0] == 3 and array.dtype == np.uint8:
        picture = Image.fromarray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    else:
        raise OutputError(
            f"{path.name}: PNG holds one channel, or three of 8 bit, not {array.shape[0]} of "
            f"{array.dtype}.",
            hint="Use .tiff.",
        )
    picture.save(path, format="PNG")


def _fits(volume: Volume) -> bool:
    array = volume.array
    return array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 65535


WRITER = Writer(".png", _write, dims=(2,))
