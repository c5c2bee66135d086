"""What is true of the stored bits holds after every decoder, for every transfer syntax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import JPEGLosslessSV1

from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.read import read_dicom
from medseg_nca.io.dicom.scan import scan
from tests.io.dicom import build

SYNTAXES = [*build.NATIVE, *build.LOSSLESS]
_SEED = 7


def twelve_bits(*, signed: bool, shape: tuple[int, ...] = (3, 40, 37)) -> NDArray[np.int16]:
    low = -2048 if signed else 0
    return np.random.default_rng(_SEED).integers(low, low + 4096, shape).astype("int16")


def packed_bits(
    values: NDArray[np.int16], low: int, other: int, *, signed: bool
) -> NDArray[np.generic]:
    """The values from bit ``low`` on, and other bits set beside them."""
    raw = ((values.astype("uint16") & 0xFFF) << low) | np.uint16(other)
    return raw.view("int16") if signed else raw


def correct(paths: list[Path], **tags: Any) -> None:
    """Change headers of files whose pixels are written already."""
    for path in paths:
        dataset = pydicom.dcmread(path)
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


def array_of(folder: Path) -> NDArray[Any]:
    """``(planes, rows, columns)``."""
    return read_dicom([folder]).array[0].transpose(2, 1, 0)[:, ::-1]


def refusal(folder: Path) -> tuple[str, str]:
    with pytest.raises(DicomError) as caught:
        read_dicom([folder])
    return caught.value.problem.kind, caught.value.problem.message


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.keyword)
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize(("low", "other"), [(0, 0xA000), (4, 0x0005), (2, 0x8001)])
def test_bits_that_are_not_stored_are_ignored(
    low: int, other: int, signed: bool, syntax: str, tmp_path: Path
) -> None:
    values = twelve_bits(signed=signed)
    made = build.classic(packed_bits(values, low, other, signed=signed))
    correct(build.write(tmp_path, made, syntax), BitsStored=12, HighBit=11 + low)
    np.testing.assert_array_equal(array_of(tmp_path), values)


@pytest.mark.parametrize("syntax", [build.ExplicitVRLittleEndian, build.RLELossless])
def test_frames_of_an_enhanced_file_are_shifted_too(syntax: str, tmp_path: Path) -> None:
    values = twelve_bits(signed=True)
    made = build.enhanced(packed_bits(values, 4, 0, signed=True))
    correct([build.save(made, tmp_path / "a.dcm", syntax)], BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(array_of(tmp_path), values)


@pytest.mark.parametrize("signed", [False, True])
def test_a_packed_frame_of_the_stored_bits_alone_is_not_shifted(
    signed: bool, tmp_path: Path
) -> None:
    import imagecodecs
    from pydicom.encaps import encapsulate

    values = twelve_bits(signed=signed, shape=(1, 40, 37))
    dataset = build.classic(values.astype("uint16") & 0xFFF)[0]
    path = build.save(dataset, tmp_path / "a.dcm", JPEGLosslessSV1)
    written = pydicom.dcmread(path)
    frame = imagecodecs.jpeg8_encode(
        values[0].astype("uint16") & 0xFFF, lossless=True, predictor=1, bitspersample=12
    )
    written.PixelData = encapsulate([frame])
    written.BitsStored, written.HighBit, written.PixelRepresentation = 12, 15, int(signed)
    written.save_as(path)
    np.testing.assert_array_equal(array_of(tmp_path), values)
    correct([path], BitsStored=10, HighBit=13)  # which ten of the twelve?
    assert refusal(tmp_path)[0] == "bad-value"


def test_a_high_bit_that_the_pixels_contradict_is_refused(tmp_path: Path) -> None:
    paths = build.write(tmp_path, build.classic(twelve_bits(signed=False).astype("uint16")))
    correct(paths, BitsStored=12, HighBit=15)
    kind, message = refusal(tmp_path)
    assert kind == "bad-value"
    assert "HighBit is 15 and BitsStored 12" in message


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"BitsStored": 17}, "BitsStored is 17 of 16 bits"),
        ({"BitsStored": 0}, "BitsStored is 0 of 16 bits"),
        ({"HighBit": 16}, "HighBit is 16, for 16 stored of 16 bits"),
        ({"BitsStored": 12, "HighBit": 10}, "HighBit is 10, for 12 stored of 16 bits"),
    ],
)
def test_bits_of_no_sense_are_refused_by_the_scan(
    tags: dict[str, int], said: str, tmp_path: Path
) -> None:
    build.write(tmp_path, build.classic(build.pixels((2, 8, 6)), **tags))
    (problem,) = scan(tmp_path).series[0].problems
    assert problem.kind == "bad-value"
    assert said in problem.message


@pytest.mark.parametrize("syntax", build.NATIVE, ids=lambda s: s.keyword)
def test_padding_that_needs_more_bits_than_are_stored(syntax: str, tmp_path: Path) -> None:
    """-2000 in all 16 bits is -2000 in 12 signed ones as well, and 2096 in unsigned ones."""
    values = twelve_bits(signed=True)
    values[:, :3] = -2000
    tags = {"BitsStored": 12, "HighBit": 11}
    signed = build.classic(values, PixelPaddingValue=-2000, **tags)
    build.write(tmp_path / "signed", signed, syntax)
    np.testing.assert_array_equal(array_of(tmp_path / "signed"), values)
    raw = np.where(values == -2000, values.view("uint16"), values.view("uint16") & 0xFFF)
    unsigned = build.classic(raw.astype("uint16"), PixelPaddingValue=63536, **tags)
    build.write(tmp_path / "unsigned", unsigned, syntax)
    kind, message = refusal(tmp_path / "unsigned")
    assert kind == "bad-value"
    assert "PixelPaddingValue 63536 needs more than the 12 bits" in message


@pytest.mark.parametrize("claimed", [None, 1, 3])
@pytest.mark.parametrize(
    "syntax",
    [build.ExplicitVRLittleEndian, build.RLELossless, build.JPEGLSLossless, build.JPEG2000Lossless],
    ids=lambda s: s.keyword,
)
def test_more_frames_than_the_header_claims_are_not_left_out_silently(
    syntax: str, claimed: int | None, tmp_path: Path
) -> None:
    path = build.save(build.enhanced(build.pixels((6, 40, 36))), tmp_path / "a.dcm", syntax)
    dataset = pydicom.dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence[claimed or 1 :]
    if claimed is None:
        del dataset.NumberOfFrames
    else:
        dataset.NumberOfFrames = claimed
    dataset.save_as(path)
    kind, message = refusal(tmp_path)
    assert kind == "damaged"
    assert f"claims {claimed or 1} frames, and there are 6" in message
