"""How large an image is, from the header of its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.formats import ITK, NIFTI, image_suffix
from medseg_nca.io.itk import read_itk_header
from medseg_nca.io.nifti_header import read_header
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
    if suffix not in (*NIFTI, *ITK):
        return None
    try:
        found = _nifti(first) if suffix in NIFTI else _itk(first)
    except ImageError:
        return None
    if len(paths) == 1:
        return found
    return Extent(len(paths), found.shape, found.item_bytes, found.affine)


def _nifti(path: Path) -> Extent:
    header = read_header(path)
    size = header.dtype.itemsize
    return Extent(
        header.channels, header.spatial, max(size, 4) if header.scaled else size, header.affine
    )


def _itk(path: Path) -> Extent:
    header = read_itk_header(path)
    size = header.layout.dtype.itemsize
    return Extent(header.channels, header.spatial, size, header.affine)
