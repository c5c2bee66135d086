"""PNG: all bits, one picture, and a stream that is whole."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from medseg_nca.errors import ImageError
from medseg_nca.io.picture import warn_anew
from medseg_nca.io.read import read_label, read_volume

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    rows: list[bytes], width: int, depth: int, colour: int, *before: bytes, level: int = 9
) -> bytes:
    """A PNG of packed rows, written chunk by chunk."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), level)
    parts = (chunk(b"IHDR", header), *before, chunk(b"IDAT", data), chunk(b"IEND", b""))
    return SIGNATURE + b"".join(parts)


def png16(array: Any, colour: int, *before: bytes) -> bytes:
    return png([row.astype(">u2").tobytes() for row in array], array.shape[1], 16, colour, *before)


def numbers(*shape: int, high: int = 65536) -> Any:
    return np.random.default_rng(0).integers(0, high, shape).astype(np.uint16)


@pytest.mark.parametrize(("colour", "bands"), [(GREY, 1), (RGB, 3)])
def test_all_sixteen_bits_of_every_sample_are_read(tmp_path: Path, colour: int, bands: int) -> None:
    array = numbers(5, 7, bands)
    (tmp_path / "a.png").write_bytes(png16(array, colour))
    volume = read_volume(tmp_path / "a.png")
    np.testing.assert_array_equal(volume.array, array.T)
    # A colour that is declared see-through is still a colour.
    see_through = chunk(b"tRNS", array[0, 0].astype(">u2").tobytes())
    (tmp_path / "b.png").write_bytes(png16(array, colour, see_through))
    np.testing.assert_array_equal(read_volume(tmp_path / "b.png").array, array.T)


@pytest.mark.parametrize(("colour", "bands"), [(GREY_ALPHA, 2), (RGBA, 4)])
def test_numbers_beside_an_alpha_of_sixteen_bits_stay(
    tmp_path: Path, colour: int, bands: int
) -> None:
    labels = np.repeat(numbers(5, 7, 1, high=2) * 3, bands, axis=-1)
    labels[..., -1] = 65535
    (tmp_path / "a.png").write_bytes(png16(labels, colour))
    read = read_label(tmp_path / "a.png").array
    np.testing.assert_array_equal(read, labels[..., :1].T)
    assert set(np.unique(read)) == {0, 3}
    labels[0, 0, -1] = 65534  # an alpha that varies by less than 8 bit can tell
    (tmp_path / "b.png").write_bytes(png16(labels, colour))
    with pytest.raises(ImageError, match="alpha channel that varies"):
        read_label(tmp_path / "b.png")


def test_an_interlaced_picture_of_sixteen_bits_is_read(tmp_path: Path) -> None:
    array = numbers(9, 11)
    passes = (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
        (0, 1, 1, 2),
    )  # fmt: skip
    parts = (array[y::dy, x::dx] for x, y, dx, dy in passes)
    rows = [b"\0" + row.astype(">u2").tobytes() for part in parts for row in part]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 11, 9, 16, GREY, 0, 0, 1))
    data = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    (tmp_path / "a.png").write_bytes(SIGNATURE + header + data + chunk(b"IEND", b""))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.png").array[0], array.T)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_sparse_mask_is_read_however_well_it_packs(tmp_path: Path, depth: int) -> None:
    rows = [bytes(2048 * depth // 8)] * 1024
    (tmp_path / "a.png").write_bytes(png(rows, 2048, depth, GREY))
    assert (tmp_path / "a.png").stat().st_size < 1024 * 2048 * depth / 8 / 100
    label = read_label(tmp_path / "a.png")
    assert label.array.shape == (1, 2048, 1024)
    assert not label.array.any()


def test_a_palette_of_few_bits_gives_its_numbers(tmp_path: Path) -> None:
    colours = chunk(b"PLTE", bytes([0, 0, 0, 200, 0, 0, 0, 200, 0, 9, 9, 9]))
    (tmp_path / "a.png").write_bytes(png([bytes([0b00011011])] * 2, 4, 2, PALETTE, colours))
    assert read_label(tmp_path / "a.png").array[0, :, 0].tolist() == [0, 1, 2, 3]
    assert read_volume(tmp_path / "a.png").array[:, 1, 0].tolist() == [200, 0, 0]


def test_grey_of_two_bits_is_spread_as_every_reader_does_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    warn_anew()
    (tmp_path / "a.png").write_bytes(png([bytes([0b00011011])] * 2, 4, 2, GREY))
    assert read_label(tmp_path / "a.png").array[0, :, 0].tolist() == [0, 85, 170, 255]
    assert "spread over 0 to 255 (85 for 1)" in caplog.text


def test_an_animation_is_refused_and_one_frame_is_not(tmp_path: Path) -> None:
    frames = [Image.fromarray(numbers(6, 5, high=256).astype(np.uint8) + k) for k in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="an animation of 3 pictures"):
        read_volume(tmp_path / "a.png")
    frames[0].save(tmp_path / "b.png")
    assert read_volume(tmp_path / "b.png").shape == (5, 6)


def damage_checksum(content: bytes) -> bytes:
    place = content.index(b"IDAT") + 6
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def without_data(content: bytes) -> bytes:
    place = content.index(b"IDAT") - 4
    return content[:place] + content[content.index(b"IEND") - 4 :]


def half_of_the_rows(content: bytes) -> bytes:
    place = content.index(b"IDAT") - 4
    rows = zlib.compress(zlib.decompress(content[place + 8 : -16])[: 33 * 65])
    return content[:place] + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def stream_without_an_end(content: bytes) -> bytes:
    place = content.index(b"IDAT") - 4
    return content[:place] + chunk(b"IDAT", content[place + 8 : -40]) + chunk(b"IEND", b"")


def without_last_chunk(content: bytes) -> bytes:
    return content[:-12]


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        damage_checksum,
        without_data,
        half_of_the_rows,
        stream_without_an_end,
        without_last_chunk,
    ],
)
def test_a_stream_that_is_not_whole_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any, lenient: bool
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    rows = [row.astype(np.uint8).tobytes() for row in numbers(64, 64, high=256)]
    content = png(rows, 64, 8, GREY)
    (tmp_path / "a.png").write_bytes(content)
    assert read_volume(tmp_path / "a.png").shape == (64, 64)
    (tmp_path / "a.png").write_bytes(fault(content))
    with pytest.raises(ImageError, match=r"a\.png: .*damaged or truncated"):
        read_volume(tmp_path / "a.png")


def test_a_bomb_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2**30, 2**30, 1, GREY, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    (tmp_path / "a.png").write_bytes(SIGNATURE + header + data + chunk(b"IEND", b""))
    with pytest.raises(ImageError, match="the header claims"):
        read_volume(tmp_path / "a.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_in_exif_is_applied(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(numbers(6, 4, high=256).astype(np.uint8))
    picture.save(tmp_path / "a.png", exif=exif)
    with Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())) as opened:
        shown = np.asarray(ImageOps.exif_transpose(opened))
    for read in (read_volume, read_label):
        np.testing.assert_array_equal(read(tmp_path / "a.png").array[0], shown.T)


def test_a_large_picture_is_no_attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's limit, twice of which it refuses
    for name in ("a.png", "a.bmp", "a.jpg"):
        Image.fromarray(numbers(40, 30, high=256).astype(np.uint8)).save(tmp_path / name)
        assert read_volume(tmp_path / name).shape == (30, 40)
    assert Image.MAX_IMAGE_PIXELS == 100
