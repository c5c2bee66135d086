"""Pictures: x is the column, y the row; label numbers survive."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from medseg_nca.errors import ImageError, OutputError
from medseg_nca.io.picture import warn_anew
from medseg_nca.io.read import read_label, read_volume
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_volume


def picture(*shape: int, kind: Any = np.uint8, high: int = 256) -> Any:
    return np.random.default_rng(0).integers(0, high, shape).astype(kind)


def test_axes_are_column_and_row(tmp_path: Path) -> None:
    grey = np.zeros((2, 5), np.uint8)  # two rows, five columns
    grey[1, 3] = 7
    Image.fromarray(grey).save(tmp_path / "a.png")
    volume = read_volume(tmp_path / "a.png")
    assert volume.array.shape == (1, 5, 2)
    assert volume.array[0, 3, 1] == 7
    np.testing.assert_array_equal(volume.affine, np.eye(4))
    assert volume.spacing == (1.0, 1.0)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_colours_are_channels(tmp_path: Path, name: str) -> None:
    array = picture(6, 4, 3)
    Image.fromarray(array).save(tmp_path / name)
    np.testing.assert_array_equal(read_volume(tmp_path / name).array, array.transpose(2, 1, 0))


def test_a_constant_alpha_is_dropped_and_another_refused(tmp_path: Path) -> None:
    array = picture(6, 4, 4)
    array[..., 3] = 255
    Image.fromarray(array).save(tmp_path / "a.png")
    assert read_volume(tmp_path / "a.png").array.shape == (3, 4, 6)
    array[0, 0, 3] = 0
    Image.fromarray(array).save(tmp_path / "b.png")
    with pytest.raises(ImageError, match=r"b\.png: has an alpha channel"):
        read_volume(tmp_path / "b.png")


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bit_grey(tmp_path: Path, name: str) -> None:
    array = picture(6, 4, kind=np.uint16, high=65536)
    Image.fromarray(array).save(tmp_path / name)
    np.testing.assert_array_equal(read_volume(tmp_path / name).array[0], array.T)


def test_a_palette_is_colours_for_images_and_numbers_for_labels(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    image.putpalette([0, 0, 0, 200, 10, 20, 5, 250, 6])
    image.save(tmp_path / "a.png")
    volume = read_volume(tmp_path / "a.png")
    assert volume.array.shape == (3, 2, 2)
    assert volume.array[:, 1, 0].tolist() == [200, 10, 20]
    assert read_label(tmp_path / "a.png").array[0].tolist() == [[0, 2], [1, 1]]


def test_labels_may_be_bits_or_equal_colours_but_not_a_colour_picture(tmp_path: Path) -> None:
    mask = picture(6, 4, high=2).astype(bool)
    Image.fromarray(mask).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png").array[0], mask.T)
    same = np.repeat(picture(6, 4)[..., None], 3, axis=-1)
    Image.fromarray(same).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_label(tmp_path / "b.png").array[0], same[..., 0].T)
    Image.fromarray(picture(6, 4, 3)).save(tmp_path / "c.png")
    with pytest.raises(ImageError, match=r"c\.png: is a colour picture"):
        read_label(tmp_path / "c.png")


@pytest.mark.parametrize("values", [[0, 255], [0, 1000], [0, 65535]])
def test_a_label_map_is_written_with_its_numbers(tmp_path: Path, values: list[int]) -> None:
    labels = np.array(values)[picture(1, 6, 4, high=2)]
    volume = Volume(labels, np.eye(4))
    write_volume(volume, tmp_path / "a.png")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png").array, labels)


def test_png_says_what_it_cannot_hold(tmp_path: Path) -> None:
    volume = Volume(np.zeros((1, 4, 4), np.float32), np.eye(4))
    with pytest.raises(OutputError, match="PNG holds whole numbers"):
        write_volume(volume, tmp_path / "a.png")
    with pytest.raises(OutputError, match="PNG holds one channel"):
        write_volume(volume.with_array(np.zeros((2, 4, 4), np.uint8)), tmp_path / "a.png")
    with pytest.raises(OutputError, match="cannot hold an image of 3 axes"):
        write_volume(volume.with_array(np.zeros((1, 4, 4, 4), np.uint8)), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_output_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Unknown output format 'xyz'"):
        write_volume(Volume(np.zeros((1, 4, 4)), np.eye(4)), tmp_path / "a.xyz")


@pytest.mark.parametrize("shape", [(1, 5, 4), (2, 5, 4), (3, 5, 4), (1, 5, 4, 3), (2, 5, 4, 3)])
@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_tiff_holds_everything(tmp_path: Path, shape: tuple[int, ...], kind: Any) -> None:
    array = picture(*shape, kind=kind)
    write_volume(Volume(array, np.eye(4)), tmp_path / "a.tiff")
    again = read_volume(tmp_path / "a.tiff")
    np.testing.assert_array_equal(again.array, array)
    assert again.array.dtype == kind


def test_tiff_pages_are_z(tmp_path: Path) -> None:
    pages = picture(7, 4, 5)  # page, row, column
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    np.testing.assert_array_equal(
        read_volume(tmp_path / "a.tif").array[0], pages.transpose(2, 1, 0)
    )


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@pytest.mark.parametrize("keep", [0.2, 0.6, 0.95])
def test_a_truncated_picture_is_refused(tmp_path: Path, name: str, keep: float) -> None:
    Image.fromarray(picture(64, 64)).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ImageError, match=f"{name}: .*truncated"):
        read_volume(tmp_path / name)


def test_an_absurd_size_is_refused(tmp_path: Path) -> None:
    Image.fromarray(picture(8, 8)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    (tmp_path / "a.png").write_bytes(bytes(content))
    with pytest.raises(ImageError, match=r"a\.png"):
        read_volume(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_a_palette_that_shows_zero_as_white_is_told(
    tmp_path: Path,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    warn_anew()
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), mode="P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / name)
    assert read_label(tmp_path / name).array[0].tolist() == [[0, 1], [1, 0]]
    assert "shows 1 in black, and 0 not" in caplog.text
    caplog.clear()
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / name)
    assert read_label(tmp_path / name).array[0].tolist() == [[0, 1], [1, 0]]
    assert not caplog.text


def test_a_codec_that_nobody_reads_is_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(8, 8), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages[0].tags[259].overwrite(32809)
    with pytest.raises(ImageError, match="THUNDERSCAN") as caught:
        read_volume(tmp_path / "a.tif")
    assert "truncated" not in str(caught.value)


def bmp(rows: Any, depth: int, colours: list[int]) -> bytes:
    """A BMP whose palette has these greys."""
    packed = b""
    for row in rows[::-1]:
        bits = "".join(f"{number:0{depth}b}" for number in row)
        bits += "0" * (-len(bits) % 32)
        packed += int(bits, 2).to_bytes(len(bits) // 8, "big")
    palette = b"".join(bytes([grey, grey, grey, 0]) for grey in colours)
    start, size = 54 + len(palette), (len(rows[0]), len(rows))
    header = struct.pack("<IiiHHIIiiII", 40, *size, 1, depth, 0, len(packed), 0, 0, len(colours), 0)
    return (
        b"BM" + struct.pack("<IHHI", start + len(packed), 0, 0, start) + header + palette + packed
    )


@pytest.mark.parametrize("colours", [[0, 255], [255, 0], [0, 1, 2, 3], [0, 85, 170, 255]])
@pytest.mark.parametrize("depth", [1, 4, 8])
def test_the_numbers_of_a_bmp_are_those_in_the_file(
    tmp_path: Path, depth: int, colours: list[int]
) -> None:
    high = min(len(colours), 2**depth)
    rows = picture(5, 7, high=high)
    (tmp_path / "a.bmp").write_bytes(bmp(rows.tolist(), depth, colours[:high]))
    np.testing.assert_array_equal(read_label(tmp_path / "a.bmp").array[0], rows.T)
    shown = np.array(colours)[rows]
    if depth == 1 and shown.max() == 255 and colours[0] == 0:
        shown = rows  # a bit is 0 or 1
    for channel in read_volume(tmp_path / "a.bmp").array:
        np.testing.assert_array_equal(channel, shown.T)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("result", ["r.png", "r.tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_result_lies_on_its_picture_in_a_viewer(
    tmp_path: Path, name: str, result: str, orientation: int
) -> None:
    half = np.zeros((24, 16), np.uint8)
    half[:10] = 250
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(half).save(tmp_path / name, exif=exif)
    image = read_volume(tmp_path / name)
    write_volume(image.with_array((image.array > 128).astype(np.uint8)), tmp_path / result)

    def shown(path: Path) -> Any:
        with Image.open(path) as opened:
            return np.asarray(ImageOps.exif_transpose(opened))

    np.testing.assert_array_equal(shown(tmp_path / result) > 0, shown(tmp_path / name) > 128)


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"<!DOCTYPE html>", "a web page"), (b"version https://git-lfs", "a Git LFS pointer")],
)
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_what_is_no_picture_is_named(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content + bytes(100))
    with pytest.raises(ImageError, match=f"is {what}"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_gif_that_ends_early_is_refused(tmp_path: Path, keep: float) -> None:
    Image.fromarray(picture(20, 30)).save(tmp_path / "a.png", "GIF")
    content = (tmp_path / "a.png").read_bytes()
    lost = int(len(content) * keep)
    for tail in (b"", bytes(len(content) - lost)):
        (tmp_path / "b.png").write_bytes(content[:lost] + tail)
        with pytest.raises(ImageError, match=r"b\.png: .*damaged or truncated"):
            read_volume(tmp_path / "b.png")
