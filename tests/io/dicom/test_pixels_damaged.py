"""Pixel data that are damaged, cut, or of another kind; and the decoders of dcmtk beside ours."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import JPEGLosslessSV1

from medseg_nca.io.dicom.files import reader as files
from medseg_nca.io.dicom.files.reader import DicomError, looks_like_dicom
from medseg_nca.io.dicom.pixels.planes import read_planes
from tests.io.dicom import build
from tests.io.dicom.planes import packaged, plane, read, refused


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("JPGExtended.dcm", "dcmdjpeg"),
        ("SC_rgb_small_odd_jpeg.dcm", "dcmdjpeg"),
        ("JPEGLSNearLossless_16.dcm", "dcmdjpls"),
        ("MR_small_RLE.dcm", "dcmdrle"),
        ("compressed_jpeg", "dcmdjpeg"),
        ("compressed_rle", "dcmdrle"),
    ],
)
def test_the_decoders_of_dcmtk_agree(
    tmp_path: Path, shared_data: Callable[[str], Path], name: str, program: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing: apt-get install dcmtk")
    folder = None if name.endswith(".dcm") else shared_data("dicom") / name
    path = packaged(name) if folder is None else min(folder.iterdir())
    native = tmp_path / "native.dcm"
    subprocess.run([program, str(path), str(native)], check=True, capture_output=True)
    np.testing.assert_allclose(read([path]), read([native]), atol=1 if "rgb" in name else 0)


def test_damage_names_file_and_frame(tmp_path: Path) -> None:
    written = build.pixels((3, 40, 36), dtype="uint16")
    for syntax, marker in (
        (build.JPEG2000Lossless, b"\xff\x93"),
        (build.JPEGLSLossless, b"\xff\xda"),
        (JPEGLosslessSV1, b"\xff\xc4"),
        (build.RLELossless, b"\x02\x00\x00\x00\x40\x00\x00\x00"),
    ):
        path = build.save(build.enhanced(written), tmp_path / "a", syntax)
        data = bytearray(path.read_bytes())
        last = data.rfind(marker)
        assert last > 0
        data[last : last + 12] = b"\x01" * 12
        path.write_bytes(data)
        read_planes([plane(path, 0), plane(path, 1)])
        refused("damaged", [plane(path, 0), plane(path, 2)], "frame 3")


@pytest.mark.parametrize(
    ("syntax", "marker", "skip", "form"),
    [
        (build.JPEG2000Lossless, b"\xff\x4f\xff\x51", 8, ">LL"),
        (build.HTJ2KLossless, b"\xff\x4f\xff\x51", 8, ">LL"),
        (build.JPEGLSLossless, b"\xff\xf7", 5, ">HH"),
        (JPEGLosslessSV1, b"\xff\xc3", 5, ">HH"),
    ],
    ids=["j2k", "htj2k", "jls", "jpeg"],
)
def test_a_frame_that_claims_another_size_takes_no_memory(
    tmp_path: Path, syntax: str, marker: bytes, skip: int, form: str
) -> None:
    dataset = build.classic(build.pixels((1, 40, 36), dtype="uint16"))[0]
    path = build.save(dataset, tmp_path / "a", syntax)
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, data.index(marker) + skip, 60000, 60000)
    path.write_bytes(data)
    refused("damaged", [plane(path)], "60000", "(40, 36, 1)")


def test_frames_that_are_cut_or_too_short_are_refused(tmp_path: Path) -> None:
    dataset = build.classic(build.pixels((1, 40, 36), dtype="uint16"))[0]
    for syntax in (JPEGLosslessSV1, build.JPEGLSLossless):
        path = build.save(dataset, tmp_path / "a", syntax)
        data = path.read_bytes()
        path.write_bytes(data.replace(b"\xff\xd9", b"\x00\x00"))
        refused("damaged", [plane(path)], "frame 1", "cut")
    path = build.save(dataset, tmp_path / "a", build.RLELossless)
    claim = struct.pack("<HH2sHH", 0x28, 0x10, b"US", 2, 16000)
    path.write_bytes(path.read_bytes().replace(claim[:8] + b"\x28\x00", claim))
    refused("damaged", [plane(path)], "frame 1", "too short")


def test_what_is_no_image_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    first = build.write(tmp_path, build.classic(build.pixels((1, 8, 6))))[0]
    other = build.write(tmp_path / "b", build.classic(build.pixels((1, 6, 8))))[0]
    refused("mixed-shapes", [plane(first), plane(other)])
    colour = build.pixels((1, 8, 6, 3), dtype="uint8")
    refused(
        "mixed-shapes",
        [plane(first), plane(build.write(tmp_path / "c", build.classic(colour))[0])],
    )
    refused("damaged", [plane(first, 1)], "has 1 frames; number 2")
    refused("no-pixels", [plane(packaged("rtstruct.dcm"))])
    strange = build.classic(build.pixels((1, 8, 6)), PhotometricInterpretation="HSV")
    refused("unsupported-pixels", [plane(build.write(tmp_path / "d", strange)[0])])
    refused("unreadable", [plane(tmp_path / "none")])
    with pytest.raises(ValueError, match="planes"):
        read_planes([])


def mutated(data: bytes, seed: str) -> bytes:
    """Damage as disks and attackers make it: cut, overwritten, repeated, lengths gone wild."""
    chance = random.Random(seed)
    result = bytearray(data)
    kind = chance.choice(("cut", "bytes", "header", "pixels", "length", "repeat"))
    start = data.rfind(b"\xe0\x7f\x10\x00")
    if kind == "cut":
        return data[: chance.randrange(len(data))]
    if kind == "repeat":
        place, source = chance.randrange(len(data)), chance.randrange(len(data))
        result[place:place] = data[source : source + chance.randrange(200)]
    elif kind == "length":
        place = chance.randrange(min(len(data), 3000))
        result[place : place + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\xfe\xff\x00\xe0"))
    else:
        low, high = {
            "bytes": (0, len(data)),
            "header": (0, min(2000, len(data))),
            "pixels": (max(start, 0), min(len(data), max(start, 0) + 150)),
        }[kind]
        for _ in range(chance.randint(1, 6)):
            result[chance.randrange(low, high)] = chance.randrange(256)
    return bytes(result)


def survives(path: Path) -> None:
    """A damaged file is read, or refused as it should be; the decoders do not end the process."""
    message = str(path)
    try:
        header = files.read_header(path)
        files.read_file(path)
        frames = min(int(header.get("NumberOfFrames") or 1), 3)
        read_planes([plane(path, frame) for frame in range(frames)])
    except DicomError as error:
        message = error.problem.message
    assert str(path) in message


FUZZED = [
    "CT_small.dcm",
    "JPGExtended.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_rle_2frame.dcm",
    "UN_sequence.dcm",
    "examples_overlay.dcm",
    "image_dfl.dcm",
    "liver_1frame.dcm",
    "rtdose_rle.dcm",
    "rtstruct.dcm",
]


@pytest.mark.parametrize("name", FUZZED)
def test_damaged_files_give_dicom_errors_only(tmp_path: Path, name: str) -> None:
    data = packaged(name).read_bytes()
    path = tmp_path / "damaged.dcm"
    for number in range(12):
        path.write_bytes(mutated(data, f"{name} {number}"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            survives(path)


@pytest.mark.parametrize("syntax", build.LOSSLESS, ids=lambda s: s.keyword)
def test_damaged_packed_frames_give_dicom_errors_only(tmp_path: Path, syntax: str) -> None:
    dataset = build.enhanced(build.pixels((2, 40, 36), dtype="uint16"))
    data = build.save(dataset, tmp_path / "a", syntax).read_bytes()
    for number in range(15):
        (tmp_path / "b").write_bytes(mutated(data, f"{syntax} {number}"))
        survives(tmp_path / "b")


@pytest.mark.slow
def test_many_damaged_files_give_dicom_errors_only(tmp_path: Path) -> None:
    folder = packaged("CT_small.dcm").parent
    names = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.stat().st_size < 150_000]
    path = tmp_path / "damaged.dcm"
    for source in filter(looks_like_dicom, names):
        data = source.read_bytes()
        for number in range(40):
            path.write_bytes(mutated(data, f"slow {source.name} {number}"))
            survives(path)
