"""Pixels of synthetic DICOM files: put into a data set, and packed as JPEG frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, JPEGLossless, JPEGLosslessSV1

JPEG = (JPEGLosslessSV1, JPEGLossless)


def set_pixels(dataset: Dataset, array: NDArray[Any]) -> None:
    """Native little-endian pixels and the tags that describe them.

    Args:
        dataset: gets the pixels.
        array: ``(frames, rows, columns)``, or ``(frames, rows, columns, 3)`` for RGB.
    """
    colour = array.ndim == 4
    dataset.Rows, dataset.Columns = array.shape[1:3]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = array.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(array.dtype.kind == "i")
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if array.dtype.itemsize == 1 else "OW"


def pack_frames(dataset: Dataset, syntax: UID) -> list[bytes]:
    """Frames of a data set with native little-endian pixels, packed by imagecodecs."""
    import imagecodecs

    # JPEG has no signed values: the bits are stored as they are.
    kind = "i" if dataset.PixelRepresentation and syntax not in JPEG else "u"
    shape = (int(dataset.get("NumberOfFrames") or 1), dataset.Rows, dataset.Columns)
    if dataset.SamplesPerPixel > 1:
        shape = (*shape, dataset.SamplesPerPixel)
    size = int(np.prod(shape)) * dataset.BitsAllocated // 8
    array = np.frombuffer(dataset.PixelData[:size], f"<{kind}{dataset.BitsAllocated // 8}")
    frames = array.reshape(shape)
    if syntax in JPEG:
        predictor = 1 if syntax == JPEGLosslessSV1 else 4  # its encoder errs from 5 on
        options = {"lossless": True, "predictor": predictor, "bitspersample": dataset.BitsAllocated}
        return [imagecodecs.jpeg8_encode(f, **options) for f in frames]
    return [imagecodecs.htj2k_encode(f, reversible=True) for f in frames]
