"""NIfTI: the header of the input is given back with qform, sform, codes and units as they were.

The header is nibabel's; the values are written slice by slice, packed by several threads.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.gzipped import GzipWriter
from medseg_nca.io.slices import Narrowest, Slices
from medseg_nca.io.volume import Volume
from medseg_nca.io.writers.base import Writer


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
    header = _header(slices.shape, dtype, slices.affine, None)
    with _stream(path) as stream:
        stream.write(_header_bytes(header))
        for values in slices.read():
            needed.add(values)
            if not needed.fits(dtype):
                break
            stream.write(values.astype(dtype).tobytes("F"))
    return needed.dtype


def _write(volume: Volume, path: Path) -> None:
    array = _channels_last(volume)
    header = _header(array.shape, array.dtype, volume.affine, volume.header.get("nifti"))
    dtype = header.get_data_dtype()
    with _stream(path) as stream:
        stream.write(_header_bytes(header))
        for index in np.ndindex(array.shape[:1:-1]):
            part = array[(..., *index[::-1])]
            stream.write(part.astype(dtype, copy=False).tobytes("F"))


def _header(
    shape: tuple[int, ...], dtype: np.dtype[Any], affine: NDArray[np.float64], known: Any
) -> Any:
    """Nibabel's header for an array; ``known`` is that of the input, None if there is none."""
    kind: Any = nib.Nifti2Image if isinstance(known, nib.Nifti2Header) else nib.Nifti1Image
    array = np.broadcast_to(np.zeros((), dtype), shape)
    if known is None:
        image = kind(array, affine, dtype=dtype)
        image.header.set_xyzt_units("mm")
    else:
        header = known.copy()
        header.set_data_dtype(dtype)
        # What describes the old values would mislead a viewer about the new ones.
        header["cal_min"] = header["cal_max"] = 0
        # nibabel leaves qform and sform alone when the affine is the header's own.
        image = kind(array, affine, header=header, dtype=dtype)
    image.update_header()
    image.header.set_slope_inter(1, 0)
    return image.header


def _header_bytes(header: Any) -> bytes:
    """The header up to the first value."""
    block = io.BytesIO()
    header.write_to(block)
    return block.getvalue().ljust(header.get_data_offset(), b"\0")


@contextmanager
def _stream(path: Path) -> Iterator[BinaryIO | GzipWriter]:
    """A new file, packed if its name says so."""
    with path.open("wb") as file:
        if path.suffix.lower() != ".gz":
            yield file
            return
        with GzipWriter(file) as packed:
            yield packed


def _channels_last(volume: Volume) -> NDArray[Any]:
    array: Any = volume.array
    if array.shape[0] == 1:
        return np.asarray(array[0])
    # The fourth axis holds the channels, so a 2D image gets a third of size one.
    array = array[..., None] if volume.dims == 2 else array
    return np.asarray(np.moveaxis(array, 0, -1))


WRITER = Writer(".nii.gz", _write)
