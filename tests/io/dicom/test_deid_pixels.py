"""What hides in uncompressed pixel data: unused bits, padding, drawings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    MPEG4HP41,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
)

from medseg_nca.io.dicom.deid.deidentify import deidentify_dataset
from medseg_nca.io.dicom.problems import DicomError
from tests.io.dicom import build, referring
from tests.io.dicom.stored_pixels import HOW, SECRET, copy_of, ids, read

SYNTAXES = (*build.NATIVE, *build.LOSSLESS)


def stored_bits(dataset: Any) -> NDArray[np.uint16]:
    """All bits of 16-bit pixels, whatever the header says that is used of them."""
    dataset.BitsStored, dataset.HighBit = 16, 15
    if dataset.file_meta.TransferSyntaxUID in build.JPEG:
        import imagecodecs

        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        return np.asarray(imagecodecs.jpeg8_decode(frame)).view(np.uint16)
    values = dataset.pixel_array
    return np.asarray(values.astype(values.dtype.newbyteorder("="))).view(np.uint16)


def with_drawing(signed: bool, stored: int = 12, high: int = 11) -> tuple[Dataset, Any, Any]:
    """An image with bit 15 set in a square; the drawing, and the bits that are right."""
    rng = np.random.default_rng(3)
    values = rng.integers(0, 1 << stored, (1, 32, 32)).astype(np.uint16) << (high + 1 - stored)
    drawing = np.zeros_like(values)
    drawing[:, 4:12, 4:14] = 0x8000
    right = values.copy()
    if signed:
        right |= np.where((values >> high) & 1, (0xFFFF << (high + 1)) & 0xFFFF, 0).astype("u2")
        values = right ^ drawing  # as others write them: with their sign
    else:
        values = values | drawing
    image = build.classic(values.view("i2") if signed else values)[0]
    image.BitsStored, image.HighBit = stored, high
    return image, drawing, right


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=ids)
def test_unused_bits_are_cleared(syntax: str, signed: bool, tmp_path: Path) -> None:
    image, _, right = with_drawing(signed)
    image.BitsStored, image.HighBit = 16, 15  # so that encoders keep all bits
    original = read(image, tmp_path, syntax)
    original.BitsStored, original.HighBit = 12, 11
    new = copy_of(original, tmp_path)
    assert (new.BitsStored, new.HighBit, new.BitsAllocated) == (12, 11, 16)
    np.testing.assert_array_equal(stored_bits(new), right[0])


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=ids)
def test_pixels_without_a_drawing_stay_in_their_syntax(
    syntax: str, signed: bool, tmp_path: Path
) -> None:
    image, _, right = with_drawing(signed)
    clean = right.copy()
    image.PixelData = clean.tobytes()
    image.BitsStored, image.HighBit = 16, 15
    original = read(image, tmp_path, syntax)
    original.BitsStored, original.HighBit = 12, 11
    new = copy_of(original, tmp_path)
    assert new.file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(stored_bits(new), clean[0])


@pytest.mark.parametrize(("stored", "high"), [(12, 15), (10, 12), (8, 7), (16, 15), (1, 0)])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_other_places_of_the_used_bits(
    stored: int, high: int, signed: bool, tmp_path: Path
) -> None:
    image, _, right = with_drawing(signed, stored, high)
    if high < 15:
        new = copy_of(read(image, tmp_path), tmp_path)
        np.testing.assert_array_equal(np.frombuffer(new.PixelData, "<u2"), right.ravel())
        return
    if stored < 16:  # below the used bits, too
        image.PixelData = (right | 0b101).tobytes()
    new = copy_of(read(image, tmp_path), tmp_path)
    np.testing.assert_array_equal(
        np.frombuffer(new.PixelData, "<u2"),
        (right if stored < 16 else np.frombuffer(image.PixelData, "<u2")).ravel(),
    )


def test_padding_loses_the_same_bits(tmp_path: Path) -> None:
    values = np.full((1, 4, 4), 0xF830, np.uint16)
    values[0, 1:3, 1:3] = 700
    image = build.classic(values, PixelPaddingValue=0xF830)[0]
    image.BitsStored, image.HighBit = 12, 11
    new = copy_of(read(image, tmp_path), tmp_path)
    assert new.PixelPaddingValue == new.pixel_array[0, 0] == 0x830
    assert (new.pixel_array == new.PixelPaddingValue).sum() == 12


def test_bits_behind_the_last_single_bit(tmp_path: Path) -> None:
    planes = build.classic(build.pixels((1, 7, 5)))
    seg = referring.seg(planes, np.ones((1, 7, 5, 1), bool))
    original = read(seg, tmp_path)
    length = (35 + 7) // 8
    assert original.PixelData[length - 1] == 0b111
    original.PixelData = original.PixelData[: length - 1] + b"\xaf" + SECRET + b"\0"
    new = copy_of(original, tmp_path)
    assert new.PixelData == b"\xff" * 4 + b"\x07\0"


@pytest.mark.parametrize("syntax", build.NATIVE, ids=ids)
def test_the_byte_that_makes_a_length_even(syntax: str, tmp_path: Path) -> None:
    image = build.classic(build.pixels((1, 3, 3), dtype="uint8"))[0]
    original = read(image, tmp_path, syntax)
    original.PixelData = original.PixelData[:-1] + b"Z" + SECRET + b"Z"
    original["PixelData"].VR = "OB"
    new = copy_of(original, tmp_path)
    assert new.PixelData[9:] == b"\0"
    np.testing.assert_array_equal(new.pixel_array, build.pixels((1, 3, 3), dtype="uint8")[0])


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_bytes_behind_pixels_that_are_no_integers(keyword: str, tmp_path: Path) -> None:
    image = build.classic(build.pixels((1, 4, 4)))[0]
    values = np.arange(16, dtype="<f4" if keyword == "FloatPixelData" else "<f8")
    del image.PixelData, image.BitsStored, image.HighBit, image.PixelRepresentation
    image.BitsAllocated = values.itemsize * 8
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.30"
    setattr(image, keyword, values.tobytes() + SECRET + b" ")
    new = copy_of(read(image, tmp_path), tmp_path)
    assert new[keyword].value == values.tobytes()


def test_pixels_of_broken_bytes_are_refused_by_name(tmp_path: Path) -> None:
    image = build.classic(build.pixels((1, 4, 4), dtype="uint16"))[0]
    original = read(image, tmp_path)
    original.BitsAllocated = original.BitsStored = 12
    original.HighBit = 11
    with pytest.raises(DicomError, match=r"original\.dcm: its pixels have 12 bits"):
        deidentify_dataset(original, HOW)


def test_small_pictures_in_sequences_go(tmp_path: Path) -> None:
    image = build.classic(build.pixels((1, 8, 6)))[0]
    icon = build.classic(build.pixels((1, 4, 4), dtype="uint8"))[0]
    inner = Dataset()
    inner.PixelData, inner.Rows, inner.Columns = icon.PixelData, 4, 4
    inner.BitsAllocated = inner.BitsStored = 8
    image.IconImageSequence = image.AnatomicRegionSequence = [inner]
    new = copy_of(read(image, tmp_path), tmp_path)
    assert [e.tag for e in new.iterall() if e.keyword == "PixelData"] == [new["PixelData"].tag]
    assert len(list(new.iterall())) > 10
    assert "IconImageSequence" not in new


def test_big_endian_drawings(tmp_path: Path) -> None:
    image, _, right = with_drawing(signed=False)
    new = copy_of(read(image, tmp_path, ExplicitVRBigEndian), tmp_path)
    np.testing.assert_array_equal(np.frombuffer(new.PixelData, ">u2"), right.ravel())


@pytest.mark.parametrize("keyword", ["Rows", "Columns", "SamplesPerPixel"])
def test_pixel_data_of_no_pixels_is_refused(keyword: str, tmp_path: Path) -> None:
    original = read(build.classic(build.pixels((1, 8, 6)))[0], tmp_path, ExplicitVRLittleEndian)
    setattr(original, keyword, 0)
    original.PixelData = SECRET * 2
    with pytest.raises(DicomError, match="damaged"):
        deidentify_dataset(original, HOW)


@pytest.mark.parametrize("syntax", [MPEG4HP41, "1.2.840.10008.1.2.4.110", "1.2.3.4"])
def test_other_codings_are_refused_by_name(syntax: str, tmp_path: Path) -> None:
    original = read(build.classic(build.pixels((1, 32, 32)))[0], tmp_path, JPEG2000Lossless)
    original.file_meta.TransferSyntaxUID = UID(syntax)
    with pytest.raises(DicomError) as caught:
        deidentify_dataset(original, HOW)
    assert caught.value.problem.kind in {"unsupported-pixels", "cannot-be-deidentified"}
    assert "damaged" not in str(caught.value)
