"""TIFF of any number type, deflate-compressed; a volume's z axis becomes the pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg_nca.io.volume import Volume
from medseg_nca.io.writers.base import Writer


def _write(volume: Volume, path: Path) -> None:
    import tifffile

    array = volume.array.transpose(0, *range(volume.dims, 0, -1))
    axes = "CYX" if volume.dims == 2 else "CZYX"
    if array.shape[0] == 1:
        array, axes = array[0], axes[1:]
    tifffile.imwrite(
        path,
        np.ascontiguousarray(array),
        photometric="minisblack",
        compression="zlib",
        metadata={"axes": axes},
    )


WRITER = Writer(".tiff", _write)
