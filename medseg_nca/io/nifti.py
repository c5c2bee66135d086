"""Read NIfTI-1 and NIfTI-2, plain or gzipped.

SimpleITK is not used here: it fills what is missing from a truncated file without a word.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import DAMAGED, check_claim
from medseg_nca.io.nifti_affine import tell_doubts
from medseg_nca.io.nifti_header import NiftiHeader, read_header
from medseg_nca.io.streams import ONLY_GZIP, inflated, plain, whole
from medseg_nca.io.volume import Volume


def read_nifti(path: Path) -> Volume:
    """Read one file: 2D, 3D, or more axes, of which one behind the third becomes the channels.

    Raises:
        ImageError: if the file is not NIfTI, is damaged or truncated, has another shape, or holds
            more volumes than its header says.
    """
    header = read_header(path)
    packed = path.name.lower().endswith(".gz")
    check_claim(path, header.shape, header.dtype.itemsize, compressed=packed, offset=header.offset)
    array = _values(_stored(path, header, packed), header)
    tell_doubts(path, header.stored, header.spatial)
    known = {"nifti": header.stored, "step": abs(header.slope) if header.scaled else 0.0}
    return Volume(_channels_first(array, header), header.affine, (path,), known)


def _stored(path: Path, header: NiftiHeader, packed: bool) -> NDArray[Any]:
    size = header.dtype.itemsize
    length = header.offset + math.prod(header.shape) * size
    try:
        with path.open("rb") as file:
            blocks = inflated(file, ONLY_GZIP) if packed else plain(file)
            content = whole(path, blocks, length, math.prod(header.spatial) * size)
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(
            f"{path}: cannot be read as NIfTI, it is damaged or truncated ({error}).", hint=DAMAGED
        ) from error
    array = np.frombuffer(content, header.dtype, offset=header.offset)
    return array.reshape(header.shape, order="F")


def _values(stored: NDArray[Any], header: NiftiHeader) -> NDArray[Any]:
    """Return the stored values; scaled ones as float32 unless they were stored in more."""
    if not header.scaled or stored.dtype.kind not in "iuf":
        return stored.astype(stored.dtype.newbyteorder("="), copy=False)
    exact = stored.dtype.itemsize >= 8
    array = np.empty(stored.shape, np.float64 if exact else np.float32, order="F")
    planes = (math.prod(header.spatial[:2]), -1)
    source, target = (part.reshape(planes, order="F") for part in (stored, array))
    for index in range(source.shape[1]):  # in float64, one slice at a time
        target[:, index] = source[:, index].astype(np.float64) * header.slope + header.inter
    return array


def _channels_first(array: NDArray[Any], header: NiftiHeader) -> NDArray[Any]:
    array = array.reshape(*header.spatial, header.channels, order="F")
    if header.channels == 1:
        return array[..., 0][None]
    return np.ascontiguousarray(np.moveaxis(array, -1, 0))
