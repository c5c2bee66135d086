"""How large an image is, from the header of its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.formats import ITK, NIFTI, image_suffix
from medseg_nca.io.itk_header import read_layout
from medseg_nca.io.volume import Volume


@dataclass(frozen=True)
class Extent:
    """The size of an image.

    Attributes:
        channels: how many.
        shape: voxels per axis.
        item_bytes: of a value in memory.
        affine: 4x4 to RAS+ mm, where it is known.
    """

    channels: int
    shape: tuple[int, ...]
    item_bytes: int
    affine: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, volume: Volume) -> Extent:
        """That of an image in memory."""
        array = volume.array
        return cls(array.shape[0], volume.shape, array.itemsize, volume.affine)


def peek(paths: tuple[Path, ...]) -> Extent | None:
    """The extent of the image in a file, or in one file for each channel, without its voxels.

    None where that cannot be told quickly (pictures, DICOM), or the file cannot be read: who reads
    it will say better what is wrong.
    """
    first = Path(paths[0])
    suffix = image_suffix(first)
    if suffix in NIFTI:
        found = _nifti(first)
    elif suffix in ITK:
        found = _itk(first)
    else:
        return None
    if found is None or len(paths) == 1:
        return found
    return Extent(len(paths), found.shape, found.item_bytes, found.affine)


def _nifti(path: Path) -> Extent | None:
    try:
        image: Any = nib.load(path)
        shape = tuple(int(n) for n in image.shape)
        slope, inter = image.header.get_slope_inter()
    except Exception:  # whatever a damaged header makes nibabel raise
        return None
    scaled = slope is not None and (slope, inter) != (1.0, 0.0)
    size = int(image.get_data_dtype().itemsize)
    spatial, rest = shape[:3], shape[3:]
    return Extent(
        int(np.prod(rest, dtype=int)), spatial, max(size, 4) if scaled else size,
        np.array(image.affine, np.float64),
    )  # fmt: skip


def _itk(path: Path) -> Extent | None:
    try:
        layout = read_layout(path)
    except ImageError:
        return None
    if len(layout.shape) not in (2, 3):
        return None
    return Extent(1, tuple(layout.shape), layout.item_bytes)
