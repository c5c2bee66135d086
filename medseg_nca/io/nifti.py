"""Read NIfTI-1 and NIfTI-2, plain or gzipped, with nibabel.

SimpleITK is not used here: it fills what is missing from a truncated file without a word.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import DAMAGED, check_claim
from medseg_nca.io.volume import Volume

_FAULTS = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error)


def read_nifti(path: Path) -> Volume:
    """Read one file: 2D, 3D, 4D (the fourth axis becomes the channels) or vector-valued 5D.

    Raises:
        ImageError: if the file is not NIfTI, is damaged or truncated, or has another shape.
    """
    try:
        image: Any = nib.load(path)
        shape, dtype = image.shape, image.get_data_dtype()
        if dtype.fields is not None:
            raise ImageError(f"{path}: is a colour NIfTI; save one volume per colour instead.")
        packed = path.name.lower().endswith(".gz")
        offset = int(image.dataobj.offset)
        check_claim(path, shape, dtype.itemsize, compressed=packed, offset=offset)
        if packed:
            image = _unpack(path, image, offset + int(np.prod(shape)) * dtype.itemsize)
        array = _values(image)
    except _FAULTS as error:
        raise ImageError(
            f"{path}: cannot be read as NIfTI, it is damaged or truncated ({_reason(error)}).",
            hint=DAMAGED,
        ) from error
    affine = np.array(image.affine, dtype=np.float64)
    # The extensions stay behind: they often hold the DICOM header, and so the patient's name.
    header = image.header.copy()
    header.extensions.clear()
    return Volume(_channels_first(path, array), affine, (path,), {"nifti": header})


def _unpack(path: Path, image: Any, length: int) -> Any:
    """Inflate the whole file once, so that a missing end or a wrong checksum is found."""
    with gzip.open(path) as file:
        content = file.read(length)
        file.read(1)  # reaching the end makes gzip compare the checksum
    if len(content) < length:
        raise EOFError(f"{len(content):,} of {length:,} bytes")
    return type(image).from_bytes(content)


def _values(image: Any) -> NDArray[Any]:
    """Return the stored values; scaled ones as float32 unless they were stored in more."""
    stored = image.dataobj
    scaled = (stored.slope, stored.inter) != (1.0, 0.0)
    if scaled and image.get_data_dtype().itemsize < 8:
        # nibabel computes in float64: one slice after the other needs no such array.
        array: NDArray[Any] = np.empty(stored.shape, np.float32, order="F")
        for index in range(stored.shape[-1]):
            array[..., index] = stored[..., index]
        return array
    array = np.asanyarray(stored)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _channels_first(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim == 5 and array.shape[3] == 1:
        array = array[:, :, :, 0]
    if array.ndim in (2, 3):
        return array[None]
    if array.ndim == 4:
        return np.ascontiguousarray(np.moveaxis(array, 3, 0))
    raise ImageError(f"{path}: has {array.ndim} axes {array.shape}; 2, 3 or 4 can be read.")


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
