"""Decode JPEG frames with libjpeg-turbo, as a plug-in of pydicom's decoders.

Pillow brings 8 bits only, and GDCM ends the process on damaged data. libjpeg-turbo 3 (through
imagecodecs) does baseline, extended with 12 bits, and lossless with any predictor and 2 to 16 bits.
"""

from __future__ import annotations

from typing import Any

from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

# What pydicom asks a plug-in for.
DECODER_DEPENDENCIES = {
    JPEGBaseline8Bit: ("imagecodecs>=2025.3",),
    JPEGExtended12Bit: ("imagecodecs>=2025.3",),
    JPEGLossless: ("imagecodecs>=2025.3",),
    JPEGLosslessSV1: ("imagecodecs>=2025.3",),
}


def is_available(uid: str) -> bool:
    """Whether a transfer syntax can be decoded; the package is a dependency of ours."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(data: bytes, runner: Any) -> bytearray:
    """Decode one frame, with its colour space left as it is.

    Args:
        data: the frame.
        runner: pydicom's ``DecodeRunner``; learns the size and order of the decoded values.

    Returns:
        Little-endian values, colour by pixel.
    """
    import imagecodecs

    colour = "RGB" if runner.samples_per_pixel > 1 else None
    array = imagecodecs.jpeg8_decode(data, colorspace=colour, outcolorspace=colour)
    runner.set_option("bits_allocated", 8 * array.dtype.itemsize)
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
    return bytearray(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
