"""NIfTI: the header of the input is given back with qform, sform, codes and units as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.volume import Volume
from medseg_nca.io.writers.base import Writer


def _write(volume: Volume, path: Path) -> None:
    array = _channels_last(volume)
    header: Any = volume.header.get("nifti")
    kind: Any = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    if header is None:
        image = kind(array, volume.affine, dtype=array.dtype)
        image.header.set_xyzt_units("mm")
    else:
        header = header.copy()
        header.set_data_dtype(array.dtype)
        # What describes the old values would mislead a viewer about the new ones.
        header["cal_min"] = header["cal_max"] = 0
        header["scl_slope"], header["scl_inter"] = np.nan, np.nan
        # nibabel leaves qform and sform alone when the affine is the header's own.
        image = kind(array, volume.affine, header=header, dtype=array.dtype)
    image.to_filename(path)


def _channels_last(volume: Volume) -> NDArray[Any]:
    array: Any = volume.array
    if array.shape[0] == 1:
        return np.asarray(array[0])
    # The fourth axis holds the channels, so a 2D image gets a third of size one.
    array = array[..., None] if volume.dims == 2 else array
    return np.asarray(np.moveaxis(array, 0, -1))


WRITER = Writer(".nii.gz", _write)
