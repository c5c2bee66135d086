"""TIFF files of many pages, of parts, and of pages that are missing or were cut short."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from medseg_nca.errors import ImageError
from medseg_nca.io.read import read_volume
from tests.io.tiffs import STRIP_COUNTS, TILE_COUNTS, change_tag, noise


def write_two_kinds(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(noise(6, 4), metadata=None)
        file.write(noise(6, 4, kind=np.uint16), metadata=None)


def write_two_series(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(noise(5, 9, 8))
        file.write(noise(5, 9, 8))


def write_half_as_large(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(noise(64, 48), metadata=None)
        file.write(noise(32, 24), metadata=None)


def write_picture_within(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(noise(6, 4), subifds=1, metadata=None)
        file.write(noise(9, 9), metadata=None)


def write_time_points(path: Path) -> None:
    tifffile.imwrite(path, noise(5, 6, 4), imagej=True, metadata={"axes": "TYX"})


def write_ome_time_points(path: Path) -> None:
    tifffile.imwrite(path, noise(5, 9, 8), ome=True, metadata={"axes": "TYX"})


def write_time_and_depth(path: Path) -> None:
    tifffile.imwrite(path, noise(2, 3, 6, 4), imagej=True, metadata={"axes": "TZYX"})


def write_printing_colours(path: Path) -> None:
    tifffile.imwrite(path, noise(6, 4, 4), photometric="separated")


@pytest.mark.parametrize(
    "write",
    [
        write_two_kinds,
        write_two_series,
        write_half_as_large,
        write_picture_within,
        write_time_points,
        write_ome_time_points,
        write_time_and_depth,
        write_printing_colours,
    ],
)
def test_no_part_is_taken_for_the_whole(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"a\.tif: (holds|has the TIFF axes)") as caught:
        read_volume(tmp_path / "a.tif")
    assert "damaged" not in str(caught.value)


def test_smaller_copies_that_say_so_are_passed_over(tmp_path: Path) -> None:
    array = noise(64, 48)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(array, metadata=None)
        file.write(array[::2, ::2], subfiletype=1, metadata=None)
    with tifffile.TiffWriter(tmp_path / "b.tif", ome=True) as file:
        file.write(array, subifds=1, tile=(16, 16))
        file.write(array[::2, ::2], subfiletype=1, tile=(16, 16))
    with tifffile.TiffWriter(tmp_path / "c.tif") as file:
        file.write(array[::2, ::2], subfiletype=1, metadata=None)
        file.write(array, metadata=None)
    for name in ("a.tif", "b.tif", "c.tif"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).array[0], array.T)


@pytest.mark.parametrize("axes", ["ZYX", "ZCYX", "CYX"])
@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_stacks_and_channels_of_microscopes_are_read(tmp_path: Path, axes: str, kind: str) -> None:
    array = noise(*{"ZYX": (5, 6, 7), "ZCYX": (5, 2, 6, 7), "CYX": (2, 6, 7)}[axes])
    options = {kind: True, "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", array, metadata={"axes": axes}, **options)
    order = {"ZYX": (2, 1, 0), "ZCYX": (1, 3, 2, 0), "CYX": (0, 2, 1)}[axes]
    expected = array.transpose(order)
    read = read_volume(tmp_path / "a.tif").array
    np.testing.assert_array_equal(read, expected[None] if axes == "ZYX" else expected)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_slices_that_were_written_one_by_one_are_a_stack(
    tmp_path: Path, compression: str | None
) -> None:
    stack = noise(5, 30, 40)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in stack:
            writer.write(plane, contiguous=False, compression=compression)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array, stack.T[None])
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        for plane in (*stack, stack[0, :20]):
            writer.write(plane, contiguous=False, compression=compression)
    with pytest.raises(ImageError, match=r"b\.tif: holds 6 pictures or stacks"):
        read_volume(tmp_path / "b.tif")


def test_a_missing_page_of_a_stack_is_noticed(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for _ in range(4):
            file.write(noise(64, 48), compression="zlib", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages[2].offset
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: place + 8])
    with pytest.raises(ImageError, match="damaged or truncated"):
        read_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["imagej", "ome", "plain"])
@pytest.mark.parametrize("keep", [0.4, 0.8, 0.97])
def test_a_stack_that_was_cut_short_is_refused(tmp_path: Path, kind: str, keep: float) -> None:
    options = {} if kind == "plain" else {kind: True}
    tifffile.imwrite(
        tmp_path / "a.tif", noise(6, 64, 48), photometric="minisblack",
        metadata={"axes": "ZYX"}, **options,
    )  # fmt: skip
    assert read_volume(tmp_path / "a.tif").shape == (48, 64, 6)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ImageError, match="damaged or truncated"):
        read_volume(tmp_path / "a.tif")


def test_tiles_and_strips_that_are_not_there_are_not_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(64, 64), tile=(16, 16), compression="zlib")
    change_tag(path, TILE_COUNTS, lambda value: [0, *value[1:]])
    with pytest.raises(ImageError, match="lacks strips or tiles"):
        read_volume(path)
    tifffile.imwrite(path, noise(64, 64), rowsperstrip=16, compression="zlib")
    change_tag(path, STRIP_COUNTS, lambda value: [*value[:3], 0])
    with pytest.raises(ImageError, match="lacks strips or tiles"):
        read_volume(path)


@pytest.mark.parametrize(
    "compression", ["zlib", "lzw", "packbits", "zstd", "lzma", "webp", "jpeg", "jpeg2000"]
)
def test_a_strip_that_was_cut_short_is_refused(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(64, 64, 3), compression=compression, photometric="rgb")
    assert read_volume(path).array.shape == (3, 64, 64)
    change_tag(path, STRIP_COUNTS, lambda value: int(value[0] * 0.6))
    with pytest.raises(ImageError, match="damaged or truncated"):
        read_volume(path)


def test_a_tiff_is_known_by_its_content(tmp_path: Path) -> None:
    array = noise(6, 4)
    tifffile.imwrite(tmp_path / "a.tif", array)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.tif").read_bytes())
    np.testing.assert_array_equal(read_volume(tmp_path / "b.png").array[0], array.T)
    Image.fromarray(array).save(tmp_path / "c.png")
    (tmp_path / "d.tif").write_bytes((tmp_path / "c.png").read_bytes())
    np.testing.assert_array_equal(read_volume(tmp_path / "d.tif").array[0], array.T)


def test_a_private_tag_that_is_broken_does_not_matter(tmp_path: Path) -> None:
    array = noise(6, 4)
    path = tmp_path / "a.tif"
    tags = [(42113, 2, 0, "nonsense", True), (50000, 2, 0, "a text that lies elsewhere", True)]
    tifffile.imwrite(path, array, extratags=tags, metadata=None)
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags[50000].offset + 8
    content = bytearray(path.read_bytes())
    content[place : place + 4] = (10**6).to_bytes(4, "little")
    path.write_bytes(content)
    np.testing.assert_array_equal(read_volume(path).array[0], array.T)


def test_one_file_of_several_is_no_stack(tmp_path: Path) -> None:
    stack = noise(2, 6, 7)
    tifffile.imwrite(
        tmp_path / "a.ome.tif", stack, ome=True, photometric="minisblack",
        metadata={"axes": "ZYX"},
    )  # fmt: skip
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        xml = str(file.ome_metadata)
    plane = (
        '<TiffData IFD="{0}" FirstZ="{0}" PlaneCount="1">'
        '<UUID FileName="{1}">urn:uuid:{2}</UUID></TiffData>'
    )
    start, end = xml.index("<TiffData"), xml.rindex("</Pixels>")
    parts = plane.format(0, "a.ome.tif", "a") + plane.format(1, "b.ome.tif", "b")
    parts = parts.replace('IFD="1"', 'IFD="0"')
    whole = (xml[:start] + parts + xml[end:]).replace("<OME ", '<OME UUID="urn:uuid:a" ')
    for name, page, there in (("a", 0, whole), ("b", 1, whole.replace('uuid:a" ', 'uuid:b" '))):
        tifffile.imwrite(
            tmp_path / f"{name}.ome.tif", stack[page], description=there.encode(), metadata=None
        )
    for missing in (False, True):
        if missing:
            (tmp_path / "b.ome.tif").unlink()
        with pytest.raises(ImageError):
            read_volume(tmp_path / "a.ome.tif")


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("keep", [0.5, 0.9, 0.99])
def test_jpeg_2000_that_ends_early_is_refused(
    tmp_path: Path, tile: tuple[int, int] | None, keep: float
) -> None:
    array = noise(48, 48)
    tifffile.imwrite(tmp_path / "a.tif", array, compression="jpeg2000", tile=tile)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array[0], array.T)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        start, count = file.pages[0].dataoffsets[-1], file.pages[0].databytecounts[-1]
    lost = start + int(count * keep)
    content[lost : start + count] = bytes(start + count - lost)
    (tmp_path / "b.tif").write_bytes(content)
    with pytest.raises(ImageError, match=r"b\.tif: .*damaged or truncated"):
        read_volume(tmp_path / "b.tif")


@pytest.fixture(params=["all", "logger", "level"])
def silence(request: pytest.FixtureRequest) -> Iterator[None]:
    """As configurations of logging do it in other people's programs."""
    log = logging.getLogger("tifffile")
    level = log.level
    if request.param == "all":
        logging.disable(logging.CRITICAL)
    elif request.param == "logger":
        log.disabled = True
    else:
        log.setLevel(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    log.disabled = False
    log.setLevel(level)


@pytest.mark.usefixtures("silence")
def test_a_stack_that_was_cut_short_is_refused_though_nobody_logs(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(5, 30, 40), imagej=True, metadata={"axes": "ZYX"})
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=r"a\.tif: .*damaged or truncated"):
        read_volume(tmp_path / "a.tif")
    assert not logging.getLogger("tifffile").isEnabledFor(logging.WARNING)


@pytest.mark.parametrize("shape", [(30, 40), (3, 30, 40)])
def test_pages_that_were_overwritten_with_zeros_are_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for plane in noise(3, *shape)[:, :30, :40]:
            file.write(plane, metadata=None, photometric="minisblack", contiguous=False)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        second = file.pages[1].offset
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[:second] + bytes(len(content) - second))
    with pytest.raises(ImageError, match=r"a\.tif: "):
        read_volume(tmp_path / "a.tif")
