"""NIfTI: the header of the input is given back with qform, sform, codes and units as they were.

The header is nibabel's; the values are written slice by slice, packed by several threads.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.gzipped import GzipWriter
from medseg_nca.io.nifti_affine import affine_mm
from medseg_nca.io.slices import Narrowest, Slices
from medseg_nca.io.volume import Volume
from medseg_nca.io.writers.base import Writer

# Intent codes of values along the fifth axis: matrices, vectors, colours.
_OF_VECTORS = {1004, 1005, 1006, 1007, 1008, 1009, 2003, 2004}


def write_sliced(slices: Slices, path: Path) -> None:
    """Write slices in the smallest type that holds them; they are read again if that was not known.

    ``OSError`` may come out of it, and what the slices raise; the caller takes care of half-written
    files.
    """
    dtype = slices.dtype
    while (needed := _write_as(slices, dtype, path)) != dtype:
        dtype = needed


def _write_as(slices: Slices, dtype: np.dtype[Any], path: Path) -> np.dtype[Any]:
    """Write slices in a type, up to the first that does not fit; the type that is needed."""
    needed = Narrowest()
    image = _in_mm(np.broadcast_to(np.zeros((), dtype), slices.shape), slices.affine)
    with _stream(path) as stream:
        stream.write(_header_of(image))
        for values in slices.read():
            needed.add(values)
            if not needed.fits(dtype):
                break
            stream.write(values.astype(dtype).tobytes("F"))
    return needed.dtype


def _write(volume: Volume, path: Path) -> None:
    known: Any = volume.header.get("nifti")
    if known is None:
        image = _in_mm(_channels_last(volume), volume.affine)
    else:
        image = _with_header(volume, known.copy())
    array, dtype = np.asanyarray(image.dataobj), image.get_data_dtype()
    with _stream(path) as stream:
        stream.write(_header_of(image))
        for index in np.ndindex(array.shape[:1:-1]):  # the last axis is the slowest in the file
            part = array[(..., *index[::-1])]
            stream.write(part.astype(dtype, copy=False).tobytes("F"))


@contextmanager
def _stream(path: Path) -> Iterator[BinaryIO | GzipWriter]:
    """A new file, packed if its name says so."""
    with path.open("wb") as file:
        if path.suffix.lower() != ".gz":
            yield file
            return
        with GzipWriter(file) as packed:
            yield packed


def _header_of(image: Any) -> bytes:
    """The header, with all that stands in the file before the first value."""
    image.update_header()
    image.header.set_slope_inter(1, 0)
    block = io.BytesIO()
    image.header.write_to(block)
    return block.getvalue().ljust(image.header.get_data_offset(), b"\0")


def _in_mm(array: NDArray[Any], affine: NDArray[np.float64]) -> Any:
    image: Any = nib.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    return image


def _with_header(volume: Volume, header: Any) -> Any:
    kind: Any = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    shape = header.get_data_shape()
    array = _channels_last(volume)
    if array.size == math.prod(shape) and array.shape[:3] == shape[:3]:
        array = array.reshape(shape)  # axes with one place stay
    header.set_data_dtype(array.dtype)
    # What describes the old values would mislead a viewer about the new ones.
    header["cal_min"] = header["cal_max"] = 0
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
