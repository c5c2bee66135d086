"""Images that belong to a class, of any layout: found in folders, read from files and arrays."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import DataError
from medseg_nca.io.checks import check_values
from medseg_nca.io.formats import DICOM, image_suffix
from medseg_nca.io.read import read_volume

COLOURS = 3


def read_picture(path: Path) -> NDArray[Any]:
    """Read an image as ``(C, x, y)`` or ``(C, x, y, z)``; volumes with their axes towards RAS.

    Raises:
        ImageError: see :func:`medseg_nca.io.read.read_volume`.
    """
    volume = read_volume(path)
    array = volume.array
    if volume.dims == 2:
        return array
    turn = nib.orientations.io_orientation(volume.affine)
    whole = np.concatenate([[[0, 1]], np.add(turn, [1, 0])])
    turned: NDArray[Any] = nib.orientations.apply_orientation(array, whole)
    return turned


def is_image(path: Path) -> bool:
    """Whether a name promises an image that can be read."""
    return image_suffix(path) is not None or path.suffix.lower() in DICOM


def is_series(folder: Path) -> bool:
    """Whether a folder holds the slices of a DICOM series: files that are no images otherwise."""
    from medseg_nca.io.dicom.files.reader import looks_like_dicom

    files = [path for path in visible(folder) if path.is_file()]
    if not files or any(image_suffix(path) for path in files):
        return False
    return looks_like_dicom(files[0])


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without hidden things.

    Raises:
        DataError: if it cannot be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}).") from error


def npz_pictures(path: Path, name: str, images: NDArray[Any]) -> list[partial[NDArray[Any]]]:
    """What reads each image of an array of them.

    Args:
        path: the file, for messages.
        name: of the array.
        images: ``(N, rows, columns)``, ``(N, a, b, c)``, or with a last axis of colours.

    Returns:
        Functions without arguments that return ``(C, x, y)`` or ``(C, x, y, z)``. Rows are y and
        columns x, as in pictures that are read from files; the axes of volumes keep their order.

    Raises:
        DataError: if it has not 3 to 5 axes, or no pixels.
    """
    last = images.shape[-1] if images.ndim else 0
    coloured = (images.ndim == 4 and last == COLOURS) or (images.ndim == 5 and last in (1, COLOURS))
    if images.ndim - coloured not in (3, 4) or 0 in images.shape[1:]:
        raise DataError(
            f"{path}: {name} has the shape {images.shape}; images are (N, rows, columns), with a "
            "last axis of 3 in colour, or (N, a, b, c) for volumes."
        )
    return [partial(_picture, path, image, coloured) for image in images]


def _picture(path: Path, image: NDArray[Any], coloured: bool) -> NDArray[Any]:
    check_values(path, image)
    picture = np.moveaxis(image, -1, 0) if coloured else image[None]
    return picture.swapaxes(1, 2) if picture.ndim == 3 else picture
