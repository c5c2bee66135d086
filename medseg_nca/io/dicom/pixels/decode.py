"""The stored values of one frame, native or packed."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.dicom.files.claims import count_frames
from medseg_nca.io.dicom.files.layout import PIXELS
from medseg_nca.io.dicom.files.places import Pixels
from medseg_nca.io.dicom.files.reader import Opened
from medseg_nca.io.dicom.pixels.bits import StoredBits
from medseg_nca.io.dicom.pixels.codestream import frame_precision, frame_size, has_end
from medseg_nca.io.dicom.problems import damaged, refusal

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import Decoder

_PIXEL_DATA = 0x7FE00010
_OPTIONS = {
    "rows": "Rows",
    "columns": "Columns",
    "samples_per_pixel": "SamplesPerPixel",
    "bits_allocated": "BitsAllocated",
    "bits_stored": "BitsStored",
    "pixel_representation": "PixelRepresentation",
    "photometric_interpretation": "PhotometricInterpretation",
    "planar_configuration": "PlanarConfiguration",
}
# What pydicom does to samples for some decoders only is done for all by `bits`.
_AS_DECODED: dict[str, Any] = {
    "apply_j2k_sign_correction": False,
    "apply_jls_sign_correction": False,
    "correct_unused_bits": False,
}


def decode_frame(file: Opened, pixels: Pixels, frame: int) -> NDArray[Any]:
    """Stored values of one frame, ``(rows, columns)`` or ``(rows, columns, 3)`` in RGB.

    Single bits (segmentations) give 0 and 1. The decoders' own exceptions come through: the caller
    says which file and frame it was, and holds :func:`quiet.quiet`.

    Raises:
        DicomError: ``damaged`` if the packed frame does not fit the header; ``unsupported-pixels``
            for single bits in big-endian order.
    """
    if file.dataset.BitsAllocated == 1 and not file.syntax.encapsulated:
        return _bits(file, pixels, frame)
    precision = None
    array = _native(file, pixels, frame)
    if array is None:
        array, precision = _decoded(file, pixels, frame)
    if array.dtype.kind == "f":
        return array
    return StoredBits.of(file.path, file.dataset).values(file.path, array, precision)


def _native(file: Opened, pixels: Pixels, frame: int) -> NDArray[Any] | None:
    """The samples of a frame that lie in the file as numpy has them; None where they do not.

    Claims about the size were compared with the file when it was opened.
    """
    dataset, bits = file.dataset, file.dataset.get("BitsAllocated")
    plain = not file.syntax.encapsulated and file.syntax.little and bits in (8, 16, 32)
    if not plain or pixels.element.tag != _PIXEL_DATA or dataset.get("SamplesPerPixel", 1) != 1:
        return None
    shape = (dataset.Rows, dataset.Columns)
    size = math.prod(shape) * bits // 8
    data = file.source.read(pixels.element.value + frame * size, size)
    return np.frombuffer(data, f"<u{bits // 8}").reshape(shape)


def _decoded(file: Opened, pixels: Pixels, frame: int) -> tuple[NDArray[Any], int | None]:
    """The samples of a frame as a decoder gives them, and the bits of a sample of packed ones."""
    options = _options(file, pixels)
    precision = None
    if file.syntax.encapsulated:
        from pydicom.encaps import encapsulate

        data = _packed_frame(file, pixels, frame)
        _check_packed(file, frame, data)
        precision = frame_precision(data)
        source: Any = encapsulate([data], has_bot=False)
        options["number_of_frames"], frame = 1, 0
    else:
        source = file.source.stream
        source.seek(pixels.element.value)
    array: NDArray[Any]
    array, _ = _decoder(file.syntax.uid).as_array(
        source, index=frame, decoding_plugin=file.syntax.decoder, **options, **_AS_DECODED
    )
    return array, precision


def _options(file: Opened, pixels: Pixels) -> dict[str, Any]:
    """What pydicom's decoders need to know; the defaults are for tags that files often lack."""
    dataset = file.dataset
    found = {
        option: dataset[keyword].value for option, keyword in _OPTIONS.items() if keyword in dataset
    }
    return {
        "samples_per_pixel": 1,
        "bits_stored": dataset.get("BitsAllocated"),
        "pixel_representation": 0,
        "planar_configuration": 0,
        "number_of_frames": count_frames(dataset),
        "pixel_keyword": PIXELS[pixels.element.tag],
        "pixel_vr": pixels.element.vr.decode() if pixels.element.vr else "OW",
    } | {option: value for option, value in found.items() if value is not None}


def _bits(file: Opened, pixels: Pixels, frame: int) -> NDArray[Any]:
    """One frame of single bits, which may start within a byte (PS3.5 8.1.1)."""
    if not file.syntax.little:  # the bytes of each word are swapped, if they are words
        raise refusal("unsupported-pixels", file.path, "holds single bits in big-endian order.")
    shape = (file.dataset.Rows, file.dataset.Columns)
    count = shape[0] * shape[1]
    first, skip = divmod(frame * count, 8)
    data = file.source.read(pixels.element.value + first, (skip + count + 7) // 8)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    return bits[skip : skip + count].reshape(shape)


def decoder_of(uid: str) -> tuple[Decoder, str]:
    """The decoder of a transfer syntax, and which of its plug-ins is to be used."""
    from medseg_nca.io.dicom.files.syntaxes import SYNTAXES

    return _decoder(uid), SYNTAXES[uid].decoder


@cache
def _decoder(uid: str) -> Decoder:
    """Pydicom's decoder, or one with our plug-in; pydicom's own table is not changed."""
    from pydicom.pixels.decoders.base import Decoder, get_decoder
    from pydicom.uid import UID

    from medseg_nca.io.dicom.files.syntaxes import SYNTAXES

    if SYNTAXES[uid].decoder != "libjpeg-turbo":
        return get_decoder(uid)
    decoder = Decoder(UID(uid))
    decoder.add_plugin("libjpeg-turbo", ("medseg_nca.io.dicom.pixels.libjpeg", "decode_frame"))
    return decoder


def _packed_frame(file: Opened, pixels: Pixels, frame: int) -> bytes:
    """The bytes of one packed frame, which may lie in several fragments (PS3.5 A.4)."""
    from pydicom.encaps import get_frame

    assert pixels.fragments is not None  # an encapsulated syntax
    count = count_frames(file.dataset)
    fragments = pixels.fragments[1:]
    if len(fragments) == count:
        return file.source.read(*fragments[frame])
    if count == 1:
        return b"".join(file.source.read(*fragment) for fragment in fragments)
    file.source.stream.seek(pixels.element.value)
    offsets = None
    if "ExtendedOffsetTable" in file.dataset:
        offsets = (file.dataset.ExtendedOffsetTable, file.dataset.ExtendedOffsetTableLengths)
    data = get_frame(file.source.stream, frame, number_of_frames=count, extended_offsets=offsets)
    return bytes(data)


def _check_packed(file: Opened, frame: int, data: bytes) -> None:
    """Compare the size within the frame with the header, before a decoder takes memory for it."""
    dataset = file.dataset
    expected = (dataset.Rows, dataset.Columns, dataset.get("SamplesPerPixel", 1))
    if file.syntax.decoder == "pydicom":  # RLE has no size of its own; 2 bytes give at most 128
        if 64 * len(data) < math.prod(expected) * dataset.BitsAllocated // 8:
            raise damaged(file.path, f"frame {frame + 1} is too short for {expected}.")
        return
    size = frame_size(data)
    if size is None:
        raise damaged(file.path, f"frame {frame + 1} is no frame of its transfer syntax.")
    if size != expected:
        raise damaged(
            file.path,
            f"frame {frame + 1} says that it has {size} rows, columns and samples, "
            f"the header says {expected}.",
        )
    if data[:2] == b"\xff\xd8" and not has_end(data):  # the decoders would fill it with grey
        raise damaged(file.path, f"frame {frame + 1} is cut before its end.")
