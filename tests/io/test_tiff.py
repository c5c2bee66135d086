"""TIFF: codes, palettes, orientations and bands become the numbers that they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from medseg_nca.errors import ImageError
from medseg_nca.io.picture import warn_anew
from medseg_nca.io.read import read_label, read_volume
from tests.io.tiffs import ORIENTATION, STRIP_COUNTS, change_tag, noise


def disc() -> Any:
    y, x = np.mgrid[:1024, :1024]
    return (x - 500) ** 2 + (y - 400) ** 2 < 60**2


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "zstd", "lzma", "jpeg2000"])
def test_a_sparse_mask_is_read_however_well_it_packs(tmp_path: Path, compression: str) -> None:
    mask = disc().astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", mask, compression=compression)
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif").array[0], mask.T)
    tifffile.imwrite(tmp_path / "b.tif", mask * 0, compression=compression)
    assert not read_label(tmp_path / "b.tif").array.any()


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_fax_codes_are_read_whole_or_not_at_all(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.tif"
    for mask in (disc(), disc() & False):
        Image.fromarray(mask).save(path, compression=compression)
        np.testing.assert_array_equal(read_label(path).array[0], mask.T)
    mask = disc()[300:500, 400:600]
    Image.fromarray(mask).save(path, compression=compression, tiffinfo={278: 200})
    change_tag(path, STRIP_COUNTS, lambda value: int(value[0] * 0.6))
    with pytest.raises(ImageError, match="damaged or truncated"):
        read_label(path)


def test_bits_of_deflate_are_counted_as_bits(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", disc(), compression="zlib", photometric="minisblack")
    assert read_label(tmp_path / "a.tif").array.sum() == disc().sum()


def test_white_for_zero_is_applied_to_images_and_told_of_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    warn_anew()
    for array, top in ((noise(6, 4), 255), (noise(6, 4, high=65536, kind=np.uint16), 65535)):
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite")
        np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array[0], top - array.T)
        np.testing.assert_array_equal(read_label(tmp_path / "a.tif").array[0], array.T)
    assert caplog.text.count("taken as stored") == 1
    bits = noise(6, 4, high=2).astype(bool)
    tifffile.imwrite(tmp_path / "a.tif", bits, photometric="miniswhite")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array[0], ~bits.T)
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif").array[0], bits.T)
    tifffile.imwrite(tmp_path / "a.tif", noise(6, 4, kind=np.float32), photometric="miniswhite")
    with pytest.raises(ImageError, match="calls its lowest number white"):
        read_volume(tmp_path / "a.tif")


def test_a_palette_is_colours_for_images_and_numbers_for_labels(tmp_path: Path) -> None:
    colours = noise(3, 256, kind=np.uint16) * 257
    array = noise(6, 4)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="palette", colormap=colours)
    read = read_volume(tmp_path / "a.tif").array
    np.testing.assert_array_equal(read, (colours >> 8)[:, array.T])
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif").array[0], array.T)
    colours[0, 0] = 12345  # says more than 8 bit
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="palette", colormap=colours)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array, colours[:, array.T])


UPRIGHT = [[0, 1, 2], [3, 4, 5]]
SHOWN = {
    1: [[0, 1, 2], [3, 4, 5]],
    2: [[2, 1, 0], [5, 4, 3]],
    3: [[5, 4, 3], [2, 1, 0]],
    4: [[3, 4, 5], [0, 1, 2]],
    5: [[0, 3], [1, 4], [2, 5]],
    6: [[3, 0], [4, 1], [5, 2]],
    7: [[5, 2], [4, 1], [3, 0]],
    8: [[2, 5], [1, 4], [0, 3]],
}


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("read", [read_volume, read_label])
def test_the_orientation_is_applied(tmp_path: Path, orientation: int, read: Any) -> None:
    tag = [(ORIENTATION, 3, 1, orientation, False)]
    tifffile.imwrite(tmp_path / "a.tif", np.array(UPRIGHT, np.uint8), extratags=tag)
    assert read(tmp_path / "a.tif").array[0].T.tolist() == SHOWN[orientation]
    stack = np.stack([np.array(UPRIGHT, np.uint8), np.array(UPRIGHT, np.uint8) + 6])
    tifffile.imwrite(
        tmp_path / "b.tif", stack, extratags=tag, photometric="minisblack", metadata=None
    )
    for page in (0, 1):
        shown = np.array(SHOWN[orientation]) + 6 * page
        np.testing.assert_array_equal(read(tmp_path / "b.tif").array[0, ..., page].T, shown)


def test_pages_that_are_turned_differently_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for orientation in (1, 3):
            tag = [(ORIENTATION, 3, 1, orientation, True)]
            file.write(noise(6, 4), extratags=tag, metadata=None)
    with pytest.raises(ImageError, match=r"turned differently \(Orientation \[1, 3\]\)"):
        read_volume(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "kind", ["int8", "int16", "uint32", "int32", "float16", "float32", "float64"]
)
def test_numbers_of_every_kind_are_read(tmp_path: Path, kind: str) -> None:
    array = noise(6, 4, high=100, kind=kind)
    tifffile.imwrite(tmp_path / "a.tif", array)
    read = read_volume(tmp_path / "a.tif").array
    np.testing.assert_array_equal(read[0], array.T)
    assert read.dtype == kind
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif").array[0], array.T)


def test_twelve_bits_in_a_row_are_read(tmp_path: Path) -> None:
    array = noise(6, 4, high=4096, kind=np.uint16)
    pairs = array.reshape(-1, 2).astype(int)
    packed = np.stack(
        [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=-1
    ).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", packed.reshape(6, 6), metadata=None)
    for code, value in ((256, 4), (258, 12)):  # width, bits
        change_tag(tmp_path / "a.tif", code, lambda _, value=value: value)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array[0], array.T)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_bands_in_either_order_are_bands(tmp_path: Path, planar: str) -> None:
    array = noise(3, 6, 4) if planar == "separate" else noise(6, 4, 3)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", planarconfig=planar)
    expected = array.transpose(0, 2, 1) if planar == "separate" else array.T
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array, expected)


def test_a_band_is_no_alpha_unless_the_file_says_so(tmp_path: Path) -> None:
    array = noise(6, 4, 2)
    array[..., 1] = 7
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array, array.T)
    tifffile.imwrite(
        tmp_path / "b.tif", array, photometric="minisblack", planarconfig="contig",
        extrasamples=["unassalpha"],
    )  # fmt: skip
    np.testing.assert_array_equal(read_volume(tmp_path / "b.tif").array, array[..., :1].T)


def test_jpeg_within_tiff_that_ends_early_is_refused_also_with_an_end_marker(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(64, 64, 3), compression="jpeg", photometric="rgb")
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        place = page.dataoffsets[0] + page.databytecounts[0] * 2 // 3
    content = bytearray(path.read_bytes())
    content[place : place + 2] = b"\xff\xd9"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="end before its pixels do"):
        read_volume(path)


@pytest.mark.parametrize(
    ("compression", "options", "lossy"),
    [
        ("jpeg", {}, True),
        ("jpeg", {"lossless": True}, False),
        ("jpeg2000", {"level": 30, "reversible": False}, True),
        ("jpeg2000", {"reversible": True}, False),
        ("webp", {"level": 50, "lossless": False}, True),
        ("webp", {"lossless": True}, False),
        ("zstd", {}, False),
    ],
)
def test_a_label_map_may_not_be_lossy(
    tmp_path: Path, compression: str, options: dict[str, Any], lossy: bool
) -> None:
    mask = np.repeat((noise(64, 64, high=2) * 3)[..., None], 3, axis=-1)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, mask, compression=compression, compressionargs=options, photometric="rgb"
    )
    assert read_volume(path).array.shape == (3, 64, 64)
    if lossy:
        with pytest.raises(ImageError, match="packed with loss"):
            read_label(path)
    else:
        np.testing.assert_array_equal(read_label(path).array[0], mask[..., 0].T)


@pytest.mark.parametrize("compression", [None, "zlib", "zstd"])
def test_a_claim_beyond_the_file_is_refused(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(64, 64), compression=compression, rowsperstrip=64, metadata=None)
    for code in (256, 257, 278):
        change_tag(path, code, lambda _: 60_000)
    with pytest.raises(ImageError, match="the header claims 3,600,000,000 bytes"):
        read_volume(path)
