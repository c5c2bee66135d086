"""NIfTI: the header of the input is given back with qform, sform, codes and units as they were."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.nifti_affine import affine_mm
from medseg_nca.io.volume import Volume
from medseg_nca.io.writers.base import Writer

# Intent codes of values along the fifth axis: matrices, vectors, colours.
_OF_VECTORS = {1004, 1005, 1006, 1007, 1008, 1009, 2003, 2004}


def _write(volume: Volume, path: Path) -> None:
    header: Any = volume.header.get("nifti")
    if header is None:
        array = _channels_last(volume)
        image = nib.Nifti1Image(array, volume.affine, dtype=array.dtype)
        image.header.set_xyzt_units("mm")
    else:
        image = _with_header(volume, header.copy())
    image.to_filename(path)


def _with_header(volume: Volume, header: Any) -> Any:
    kind: Any = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    shape = header.get_data_shape()
    array = _channels_last(volume)
    if array.size == math.prod(shape) and array.shape[:3] == shape[:3]:
        array = array.reshape(shape)  # axes with one place stay
    header.set_data_dtype(array.dtype)
    # What describes the old values would mislead a viewer about the new ones.
    header["cal_min"] = header["cal_max"] = 0
    header["scl_slope"], header["scl_inter"] = np.nan, np.nan
    if array.ndim < 5 and int(header["intent_code"]) in _OF_VECTORS:
        header.set_intent("none")
    own = affine_mm(volume.sources[0] if volume.sources else Path(), header, shape[:3])
    if np.allclose(own, volume.affine):
        # nibabel leaves qform, sform and unit alone when it is given no affine.
        return kind(array, None, header=header, dtype=array.dtype)
    header["xyzt_units"] = int(header["xyzt_units"]) // 8 * 8 + 2  # mm, and the unit of time
    return kind(array, volume.affine, header=header, dtype=array.dtype)


def _channels_last(volume: Volume) -> NDArray[Any]:
    array: Any = volume.array
    if array.shape[0] == 1:
        return np.asarray(array[0])
    # The fourth axis holds the channels, so a 2D image gets a third of size one.
    array = array[..., None] if volume.dims == 2 else array
    return np.asarray(np.moveaxis(array, 0, -1))


WRITER = Writer(".nii.gz", _write)
