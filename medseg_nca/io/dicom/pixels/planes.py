"""Decoded values of planes, as their modality means them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.dicom.files.claims import count_frames
from medseg_nca.io.dicom.files.layout import PIXELS, Pixels
from medseg_nca.io.dicom.files.reader import Opened, opened
from medseg_nca.io.dicom.pixels.bits import StoredBits
from medseg_nca.io.dicom.pixels.codestream import frame_precision, frame_size, has_end
from medseg_nca.io.dicom.pixels.rescale import meant, narrowest
from medseg_nca.io.dicom.pixels.tables import TableError, in_colour
from medseg_nca.io.dicom.problems import DicomError, damaged, refusal, too_large
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.records import Plane

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import Decoder

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
_EXPORT = "Have it exported again, or correct its header."
# What pydicom does to samples for some decoders only is done for all by `bits`.
_AS_DECODED: dict[str, Any] = {
    "apply_j2k_sign_correction": False,
    "apply_jls_sign_correction": False,
    "correct_unused_bits": False,
}
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


def read_planes(planes: Sequence[Plane]) -> NDArray[Any]:
    """Read the values of planes, in their order.

    Each file is opened once and only the frames asked for are decoded; beside the result, one
    decoded frame is in memory. Bits beyond BitsStored (old overlays) are ignored, whatever the
    transfer syntax (:mod:`bits`). Grey values get the modality LUT or slope and intercept of their
    own frame; MONOCHROME1 is turned where that is right (:func:`rescale.is_turned`).
    PixelPaddingValue is a value as any other. Palettes and YBR become RGB.

    Args:
        planes: at least one; all of one shape, all grey or all in colour.

    Returns:
        ``(n, rows, columns)``, or ``(n, rows, columns, 3)`` in colour; the first of uint8, int16,
        uint16, int32 that holds all values exactly, else float32.

    Raises:
        DicomError: as :func:`medseg_nca.io.dicom.files.reader.read_header`; ``damaged`` names file
            and frame that cannot be decoded; ``bad-value`` for bits, slopes and tables of no sense;
            ``no-pixels``, ``unsupported-pixels``, ``mixed-shapes``.
    """
    if not planes:
        raise ValueError("planes: at least one is needed")
    result: NDArray[Any] | None = None
    for path, wanted in _by_file(planes).items():
        with opened(path) as file:
            for index, values in _frames(file, wanted):
                result = _put(result, len(planes), index, values, planes[index])
    assert result is not None  # every plane was read, or an error raised
    return result


def _by_file(planes: Sequence[Plane]) -> dict[Path, list[tuple[int, int]]]:
    """For each file the places in the result, and the frames for them."""
    wanted: dict[Path, list[tuple[int, int]]] = {}
    for index, plane in enumerate(planes):
        wanted.setdefault(plane.path, []).append((index, plane.frame or 0))
    return wanted


def _put(
    result: NDArray[Any] | None, count: int, index: int, values: NDArray[Any], plane: Plane
) -> NDArray[Any]:
    """Put a plane into the result, which is made for the first and widened where needed."""
    dtype = narrowest(values, None if result is None else result.dtype)
    try:
        if result is None:
            result = np.empty((count, *values.shape), dtype)
        elif result.dtype != dtype:
            result = result.astype(dtype)
    except MemoryError as error:
        raise too_large(plane.path, "there is not enough memory for its series.") from error
    if result.shape[1:] != values.shape:
        raise refusal(
            "mixed-shapes",
            plane.path,
            f"its pixels are {values.shape}, those before are {result.shape[1:]}.",
            hint="One volume is made of planes of one shape.",
        )
    result[index] = values
    return result


def _frames(file: Opened, wanted: Sequence[tuple[int, int]]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Decode the wanted frames of one file, lowest first."""
    if file.pixels is None:
        raise refusal("no-pixels", file.path, "is a DICOM object without pixels.")
    for index, frame in sorted(wanted, key=lambda pair: pair[1]):
        count = count_frames(file.dataset)
        if not 0 <= frame < count:
            raise damaged(file.path, f"has {count} frames; number {frame + 1} is wanted.")
        try:
            with quiet():
                values = _values(file, file.pixels, frame)
        except DicomError:
            raise
        except MemoryError as error:
            raise too_large(file.path, f"no memory to decode frame {frame + 1}.") from error
        except Exception as error:
            raise damaged(
                file.path, f"frame {frame + 1} cannot be decoded ({type(error).__name__})."
            ) from error
        yield index, values


def _values(file: Opened, pixels: Pixels, frame: int) -> NDArray[Any]:
    dataset = file.dataset
    kind = dataset.get("PhotometricInterpretation")
    if kind not in (*_GREY, *_COLOUR, "PALETTE COLOR"):
        raise refusal(
            "unsupported-pixels",
            file.path,
            "its PhotometricInterpretation is missing or not among "
            f"{', '.join((*_GREY, *_COLOUR))}, PALETTE COLOR.",
        )
    stored = decode_frame(file, pixels, frame)
    if kind in _COLOUR:
        return stored
    try:
        return in_colour(dataset, stored) if kind not in _GREY else meant(dataset, frame, stored)
    except TableError as error:
        raise refusal("bad-value", file.path, f"{error}.", hint=_EXPORT) from error


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
    if array.dtype.kind == "f":
        return array
    return StoredBits.of(file.path, file.dataset).values(file.path, array, precision)


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
