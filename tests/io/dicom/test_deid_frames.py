"""What hides in compressed frames: comments, segments, tables."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medseg_nca.io.dicom.deid.deidentify import deidentify_dataset
from medseg_nca.io.dicom.deid.streams import strip_comments, strip_rle
from medseg_nca.io.dicom.problems import DicomError
from tests.io.dicom import build
from tests.io.dicom.stored_pixels import HOW, SECRET, copy_of, ids, read

COMPRESSED = tuple(s for s in build.LOSSLESS if s != DeflatedExplicitVRLittleEndian)


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + (2 + len(content)).to_bytes(2) + content


def jpeg(colour: bool = False, progressive: bool = False) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    array = build.pixels((1, 32, 32, 3) if colour else (1, 32, 32), dtype="uint8")[0]
    Image.fromarray(array).save(stream, "JPEG", progressive=progressive, quality=90)
    return stream.getvalue()


def pillow(frame: bytes) -> bytes:
    from PIL import Image

    return Image.open(io.BytesIO(frame)).tobytes()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    "place", ["comment", "app1", "jfif", "jfxx", "app14", "scan", "end", "ext"]
)
def test_jpeg_frames(place: str, progressive: bool) -> None:
    frame = jpeg(progressive=progressive)
    picture = SECRET * 3
    made = {
        "comment": frame[:2] + segment(0xFE, SECRET) + frame[2:],
        "app1": frame[:2] + segment(0xE1, b"Exif\0\0" + SECRET) + frame[2:],
        "jfif": frame[:2] + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\3\3" + picture) + frame[20:],
        "jfxx": frame[:20] + segment(0xE0, b"JFXX\0\x10" + SECRET) + frame[20:],
        "app14": frame[:20] + segment(0xEE, b"Adobe\0\x64\0\0\0\0\0" + SECRET) + frame[20:],
        "scan": frame[:-2] + segment(0xFE, SECRET) + frame[-2:],
        "end": frame + SECRET,
        "ext": frame[:20] + segment(0xF3, SECRET) + b"\xff\xff" + frame[20:],
    }[place]
    assert SECRET in made
    clean = strip_comments(made)
    assert SECRET not in clean
    assert pillow(clean) == pillow(frame)


def test_jpeg_in_colour_keeps_its_colours() -> None:
    frame = jpeg(colour=True)
    assert pillow(strip_comments(frame)) == pillow(frame)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless], ids=ids)
@pytest.mark.parametrize("place", ["comment", "app8", "before-end", "end"])
def test_lossless_jpeg_frames(place: str, syntax: str, tmp_path: Path) -> None:
    original = read(build.classic(build.pixels((1, 32, 32)))[0], tmp_path, syntax)
    frame = next(generate_frames(original.PixelData, number_of_frames=1)).rstrip(b"\0")
    made = {
        "comment": frame[:2] + segment(0xFE, SECRET) + frame[2:],
        "app8": frame[:2] + segment(0xE8, b"SPIFF\0" + SECRET) + frame[2:],
        "before-end": frame[:-2] + segment(0xFE, SECRET) + frame[-2:],
        "end": frame + SECRET,
    }[place]
    clean = strip_comments(made)
    assert clean.rstrip(b"\0") == frame


def j2k(folder: Path) -> bytes:
    original = read(build.classic(build.pixels((1, 32, 32)))[0], folder, JPEG2000Lossless)
    return next(generate_frames(original.PixelData, number_of_frames=1))


@pytest.mark.parametrize("place", ["main", "tile", "last-tile", "end", "box", "tlm"])
def test_jpeg_2000_frames(place: str, tmp_path: Path) -> None:
    import imagecodecs

    plain = strip_comments(j2k(tmp_path))
    tile = plain.index(b"\xff\x90")
    comment = segment(0x64, b"\0\1" + SECRET)
    length = int.from_bytes(plain[tile + 6 : tile + 10])
    known = plain[: tile + 6] + (length + len(comment)).to_bytes(4) + plain[tile + 10 : tile + 12]
    unknown = plain[: tile + 6] + bytes(4) + plain[tile + 10 : tile + 12]
    stream = plain.rstrip(b"\0")
    made = {
        "main": plain[:tile] + comment + plain[tile:],
        "tile": known + comment + plain[tile + 12 :],
        "last-tile": unknown + comment + plain[tile + 12 :],
        "end": stream + SECRET,
        "box": b"\0\0\0\x0cjP  \r\n\x87\n"
        + struct.pack(">L4s", 8 + len(SECRET), b"xml ") + SECRET
        + struct.pack(">L4s", 8 + len(stream), b"jp2c") + stream
        + struct.pack(">L4s", 8 + len(SECRET), b"uuid") + SECRET,
        "tlm": plain[:tile] + segment(0x55, b"\0\0" + SECRET) + plain[tile:],
    }[place]  # fmt: skip
    clean = strip_comments(made)
    assert SECRET not in clean
    np.testing.assert_array_equal(
        imagecodecs.jpeg2k_decode(clean), imagecodecs.jpeg2k_decode(plain)
    )
    if place != "last-tile":
        assert clean == plain


@pytest.mark.parametrize("place", ["offsets", "gap", "behind", "within"])
def test_rle_frames(place: str, tmp_path: Path) -> None:
    original = read(build.classic(build.pixels((1, 32, 32)))[0], tmp_path, RLELossless)
    frame = next(generate_frames(original.PixelData, number_of_frames=1))
    right = original.pixel_array
    count, first, second = struct.unpack_from("<3L", frame)
    assert count == 2
    if place == "offsets":
        made = frame[: 64 - 12] + SECRET + b"\0\0\0" + frame[64:]
    elif place == "gap":
        made = struct.pack("<3L", 2, first, second + 10) + frame[12:second]
        made += SECRET + b"\0" + frame[second:]
    elif place == "behind":
        made = frame + SECRET + b"\0"
    else:  # a last run that is longer than the image
        low = (right.view("u2") & 0xFF).astype("u1").tobytes()
        runs = [bytes((63,)) + low[start : start + 64] for start in range(0, 1024 - 64, 64)]
        runs.append(bytes((63 + len(SECRET),)) + low[-64:] + SECRET)
        made = frame[:second] + b"".join(runs)
    clean = strip_rle(made + b"\0" * (len(made) % 2), 1024, 2)
    assert SECRET not in clean
    original.PixelData = encapsulate([clean])
    np.testing.assert_array_equal(original.pixel_array, right)


@pytest.mark.parametrize("syntax", COMPRESSED, ids=ids)
def test_what_stands_around_frames(syntax: str, tmp_path: Path) -> None:
    """The basic offset table, fragments, and the extended table are made anew."""
    frames = build.pixels((2, 32, 32))
    original = read(build.enhanced(frames), tmp_path, syntax)
    parts = list(generate_frames(original.PixelData, number_of_frames=2))
    table = SECRET + b"\0\0\0"
    item = b"\xfe\xff\x00\xe0"
    original.PixelData = item + struct.pack("<L", len(table)) + table
    for part in parts:
        original.PixelData += item + struct.pack("<L", len(part)) + part
    new = copy_of(original, tmp_path)
    assert SECRET not in (tmp_path / "new.dcm").read_bytes()
    if syntax not in build.JPEG:
        np.testing.assert_array_equal(new.pixel_array, frames)


def test_damaged_frames_are_refused(tmp_path: Path) -> None:
    for syntax in (JPEGLSLossless, JPEG2000Lossless, RLELossless):
        original = read(build.classic(build.pixels((1, 32, 32)))[0], tmp_path, syntax)
        frame = next(generate_frames(original.PixelData, number_of_frames=1))
        original.PixelData = encapsulate([frame[: len(frame) // 4 * 2]])
        with pytest.raises(DicomError, match="damaged") as caught:
            deidentify_dataset(original, HOW)
        assert caught.value.problem.kind == "damaged"


def test_colour_profiles_lose_their_date_and_names(tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert any(profile[24:36])
    image = build.classic(build.pixels((1, 8, 6)), ICCProfile=bytes(profile))[0]
    new = copy_of(read(image, tmp_path), tmp_path)
    kept = new.ICCProfile[: len(profile)]
    assert not any(kept[24:36])
    assert kept[128:] == bytes(profile[128:])
    image.ICCProfile = bytes(profile) + b"by Quixotina"
    assert b"Quixotina" not in copy_of(read(image, tmp_path), tmp_path).ICCProfile
    place = profile.index("copyright".encode("utf-16-be"))
    profile[place : place + 18] = SECRET.decode().encode("utf-16-be")
    image.ICCProfile = bytes(profile)
    assert "ICCProfile" not in copy_of(read(image, tmp_path), tmp_path)


def test_baseline_jpeg_stays(tmp_path: Path) -> None:
    image = build.classic(build.pixels((1, 32, 32), dtype="uint8"))[0]
    original = read(image, tmp_path)
    original.PixelData = encapsulate([jpeg()])
    original["PixelData"].is_undefined_length = True
    original.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    new = copy_of(original, tmp_path)
    assert new.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    assert new.pixel_array.tobytes() == pillow(jpeg())


@pytest.mark.parametrize("marker", [0x57, 0x58, 0x63, 0x30, 0x6F, 0x74, 0x77])
@pytest.mark.parametrize("syntax", [JPEG2000Lossless, HTJ2KLossless], ids=ids)
def test_jpeg_2000_segments_that_no_decoder_needs(syntax: str, marker: int, tmp_path: Path) -> None:
    """Lengths of packets, places of components, and whatever a vendor calls his own."""
    original = read(build.classic(build.pixels((1, 32, 32)))[0], tmp_path, syntax)
    plain = strip_comments(next(generate_frames(original.PixelData, number_of_frames=1)))
    after_size = 4 + int.from_bytes(plain[4:6])
    made = plain[:after_size] + segment(marker, SECRET) + plain[after_size:]
    assert strip_comments(made) == plain


@pytest.mark.parametrize(
    ("marker", "content"),
    [
        (0xDB, bytes(65) + SECRET),
        (0xC4, bytes(17) + SECRET),
        (0xDD, bytes(2) + SECRET),
        (0xF8, b"\1" + bytes(10) + SECRET),
        (0xF8, SECRET),
    ],
    ids=["quantization", "huffman", "restart", "parameters", "parameters-of-no-kind"],
)
def test_jpeg_tables_that_hold_more_are_refused(
    marker: int, content: bytes, tmp_path: Path
) -> None:
    original = read(build.classic(build.pixels((1, 32, 32)))[0], tmp_path, JPEGLSLossless)
    frame = next(generate_frames(original.PixelData, number_of_frames=1))
    original.PixelData = encapsulate([frame[:2] + segment(marker, content) + frame[2:]])
    with pytest.raises(DicomError, match="damaged"):
        deidentify_dataset(original, HOW)


def test_an_rle_segment_that_the_image_does_not_have_is_refused(tmp_path: Path) -> None:
    """It could be a picture of its own."""
    original = read(build.classic(build.pixels((1, 32, 32)))[0], tmp_path, RLELossless)
    frame = next(generate_frames(original.PixelData, number_of_frames=1))
    _, first, second = struct.unpack_from("<3L", frame)
    made = struct.pack("<4L", 3, first, second, len(frame)) + frame[16:] + frame[second:]
    original.PixelData = encapsulate([made])
    with pytest.raises(DicomError, match="damaged"):
        deidentify_dataset(original, HOW)
