"""What hides beside the pixels: bytes after the image, unused bits, data in compressed streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg_nca.io.dicom.deid.streams import precision, strip_comments, strip_rle
from medseg_nca.io.dicom.files.syntaxes import syntax_name
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.records import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydicom import Dataset

# The syntaxes that can be cleaned: JPEG, JPEG-LS, JPEG 2000, HTJ2K and RLE (PS3.6 table A-1). Not
# among them are films, JPEG 2000 in three dimensions and JPEG XL.
_JPEG_NUMBERS = (*range(50, 71), 80, 81, 90, 91, 201, 202, 203)
_CLEANABLE = frozenset(
    {"1.2.840.10008.1.2.5", *(f"1.2.840.10008.1.2.4.{n}" for n in _JPEG_NUMBERS)}
)
_WHOLE_BYTES = (8, 16, 32, 64)
_FLOATS = ("FloatPixelData", "DoubleFloatPixelData")
_PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")
# An offset of the basic offset table has 32 bits.
_LONGEST_TABLE = 2**32 - 1


def clean_pixels(dataset: Dataset) -> None:
    """Remove, in place, what lies in the pixel data and is no pixel.

    Native pixels are cut to the length that the image has. Of compressed frames only what a decoder
    needs is left, each in one fragment, with a new offset table. Bits that an image does not use
    (BitsStored, HighBit) are cleared, of signed values set to the sign, in every transfer syntax;
    where compressed frames have something there, the pixels become Explicit VR Little Endian.

    Args:
        dataset: with its file meta information, which may get another transfer syntax.

    Raises:
        DicomError: if unused bits of compressed pixels cannot be cleared, or frames of such a kind.
        ValueError, AttributeError, KeyError, TypeError, EOFError: if the pixel data is damaged.
    """
    for keyword in _FLOATS:
        if keyword in dataset:
            _cut(dataset, keyword)
    if "PixelData" not in dataset or not dataset.PixelData:
        return
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        _clean_frames(dataset)
    else:
        _cut(dataset, "PixelData")
        _clear_native(dataset)
    _clear_padding(dataset)


def _clean_frames(dataset: Dataset) -> None:
    from pydicom.encaps import encapsulate, encapsulate_extended
    from pydicom.uid import RLELossless

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in _CLEANABLE:
        raise _unclear(f"its pixels are coded as {syntax_name(syntax)}")
    rle = syntax == RLELossless
    length = int(dataset.Rows) * int(dataset.Columns)
    segments = int(dataset.get("SamplesPerPixel") or 1) * int(dataset.BitsAllocated) // 8
    frames = [
        strip_rle(frame, length, segments) if rle else strip_comments(frame)
        for frame in _frames(dataset)
    ]
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            delattr(dataset, keyword)
    if sum(len(frame) + 8 for frame in frames) > _LONGEST_TABLE:
        made = encapsulate_extended(frames)
        dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = made
    else:
        dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    bits = int(dataset.BitsAllocated) if rle else max(map(precision, frames))
    if bits > int(dataset.BitsStored) or int(dataset.HighBit) != int(dataset.BitsStored) - 1:
        _clear_compressed(dataset, bits)


def _frames(dataset: Dataset) -> list[bytes]:
    """The frames as they are; offset tables are used only where fragments do not tell."""
    from pydicom.encaps import generate_fragments, generate_frames, parse_basic_offsets
    from pydicom.filebase import DicomBytesIO

    count = int(dataset.get("NumberOfFrames") or 1)
    try:
        buffer = DicomBytesIO(dataset.PixelData)
        buffer.is_little_endian = True
        parse_basic_offsets(buffer)
        fragments = list(generate_fragments(buffer))
        if len(fragments) == count:
            return fragments
        if count == 1:
            return [b"".join(fragments)]
        offsets = _offsets(dataset)
        data = dataset.PixelData
        return list(generate_frames(data, number_of_frames=count, extended_offsets=offsets))
    except Exception as error:
        raise ValueError("frames that cannot be found") from error


def _offsets(dataset: Dataset) -> tuple[bytes, bytes] | None:
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        return dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths
    return None


def _clear_compressed(dataset: Dataset, bits: int) -> None:
    """Write the pixels anew, natively, if any of their unused bits says something.

    Args:
        dataset: with clean frames.
        bits: of a sample within the frames.
    """
    import numpy as np
    from pydicom.uid import ExplicitVRLittleEndian

    size = int(dataset.BitsAllocated)
    name = dataset.file_meta.TransferSyntaxUID.name
    if size not in _WHOLE_BYTES or int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise _unclear(f"its pixels have {bits} bits in {name}, of which it uses fewer")
    try:
        values = _decoded(dataset, bits)
    except (DicomError, MemoryError):
        raise
    except Exception as error:
        raise ValueError("frames that cannot be decoded") from error
    values = values.view(f"u{values.dtype.itemsize}").astype(f"u{size // 8}")
    cleared = _cleared(values, dataset)
    unused = ~_mask(dataset) & ((1 << bits) - 1)
    if (
        not ((values ^ cleared) & values.dtype.type(unused)).any()
        or not (values & values.dtype.type(unused)).any()
    ):
        return
    data = cleared.astype(cleared.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if size == 8 else "OW"
    dataset["PixelData"].is_undefined_length = False
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    assert np.prod(cleared.shape) * size // 8 == len(data)


def _decoded(dataset: Dataset, bits: int) -> NDArray[Any]:
    """All bits of all frames, as they are in the streams."""
    from medseg_nca.io.dicom.pixels.decode import decoder_of

    decoder, plugin = decoder_of(str(dataset.file_meta.TransferSyntaxUID))
    array: NDArray[Any]
    options: dict[str, Any] = {
        "rows": dataset.Rows,
        "columns": dataset.Columns,
        "samples_per_pixel": 1,
        "bits_allocated": dataset.BitsAllocated,
        "bits_stored": bits,
        "pixel_representation": dataset.PixelRepresentation,
        "photometric_interpretation": dataset.PhotometricInterpretation,
        "number_of_frames": int(dataset.get("NumberOfFrames") or 1),
        "pixel_keyword": "PixelData",
        "pixel_vr": "OB",
    }
    array, _ = decoder.as_array(dataset.PixelData, raw=True, decoding_plugin=plugin, **options)
    return array


def _cut(dataset: Dataset, keyword: str) -> None:
    """Cut to the length of the image, and clear the byte that makes it even."""
    from pydicom.pixels.utils import get_expected_length

    length = int(get_expected_length(dataset))
    value = getattr(dataset, keyword)
    if length <= 0:
        raise ValueError("an image without pixels")
    if length < len(value):
        swapped = (
            dataset[keyword].VR != "OB" and not dataset.file_meta.TransferSyntaxUID.is_little_endian
        )
        data = bytearray(value[: length + length % 2])
        if length % 2:  # big-endian words have it before the last pixel
            data[-2 if swapped else -1] = 0
        setattr(dataset, keyword, bytes(data))


def _clear_native(dataset: Dataset) -> None:
    import numpy as np

    size = int(dataset.BitsAllocated)
    if size == 1:
        _clear_last_bits(dataset)
        return
    if size not in _WHOLE_BYTES:
        raise _unclear(f"its pixels have {size} bits each, which is not a whole number of bytes")
    if int(dataset.BitsStored) == size:
        return
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    values = np.frombuffer(dataset.PixelData, f"{order}u{size // 8}")
    dataset.PixelData = _cleared(values, dataset).astype(values.dtype).tobytes()


def _clear_last_bits(dataset: Dataset) -> None:
    """Single bits: clear what stands behind the last pixel in its byte."""
    pixels = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1)
    whole, rest = divmod(pixels * int(dataset.get("SamplesPerPixel") or 1), 8)
    if rest and dataset.file_meta.TransferSyntaxUID.is_little_endian:
        data = bytearray(dataset.PixelData)
        data[whole] &= (1 << rest) - 1
        dataset.PixelData = bytes(data)


def _mask(dataset: Dataset) -> int:
    """The bits that an image uses."""
    stored, high = int(dataset.BitsStored), int(dataset.HighBit)
    low = high - stored + 1
    if not 0 < stored <= int(dataset.BitsAllocated) or not 0 <= low <= high:
        raise ValueError("bits that do not fit")
    return int(((1 << stored) - 1) << low)


def _cleared(values: NDArray[Any], dataset: Dataset) -> NDArray[np.unsignedinteger[Any]]:
    """Unsigned values without unused bits; the sign goes on into those above."""
    mask, dtype = _mask(dataset), values.dtype.type
    cleared: NDArray[Any] = values & dtype(mask)
    if dataset.PixelRepresentation == 1:
        high = int(dataset.HighBit)
        above = ((1 << int(dataset.BitsAllocated)) - 1) & ~((1 << (high + 1)) - 1)
        cleared = cleared | ((cleared >> high) & 1) * dtype(above)
    return cleared


def _clear_padding(dataset: Dataset) -> None:
    """Padding is compared with the stored bits, so it loses the same bits as the pixels."""
    import numpy as np

    size = int(dataset.BitsAllocated)
    if size not in _WHOLE_BYTES or int(dataset.BitsStored) == size:
        return
    for keyword in _PADDING:
        value = dataset.get(keyword)
        if not isinstance(value, int):
            continue
        bits = np.array([int(value) & ((1 << size) - 1)], f"u{size // 8}")
        cleared = _cleared(bits, dataset)
        signed = dataset[keyword].VR in {"SS", "SL"}
        setattr(dataset, keyword, int((cleared.view(f"i{size // 8}") if signed else cleared)[0]))


def _unclear(text: str) -> DicomError:
    return DicomError(
        Problem("unsupported-pixels", f"{text}; what else is in them cannot be cleared."),
        hint="Convert it to Explicit VR Little Endian with whole bytes first.",
    )
