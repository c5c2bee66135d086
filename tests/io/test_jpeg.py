"""JPEG: one whole picture as it is shown, and no label map that was packed with loss."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from medseg_nca.errors import ImageError
from medseg_nca.io.read import read_label, read_volume


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def jpeg(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 3)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_a_whole_picture_is_read_as_pillow_reads_it(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    content = jpeg(noise(*shape), **options)
    (tmp_path / "a.jpg").write_bytes(content)
    expected = np.asarray(Image.open(io.BytesIO(content)))
    read = read_volume(tmp_path / "a.jpg").array
    np.testing.assert_array_equal(read, expected.reshape(40, 30, -1).T)
    # What some programs write behind the end does not matter.
    (tmp_path / "a.jpg").write_bytes(content + b"\0" * 7 + b"notes")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.jpg").array, read)


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
@pytest.mark.parametrize("keep", [0.5, 0.7, 0.95])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_data_that_end_early_are_refused_also_with_an_end_marker(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    keep: float,
    end: bytes,
    lenient: bool,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    content = jpeg(noise(64, 64), **options)
    (tmp_path / "a.jpg").write_bytes(content[: int(len(content) * keep)] + end)
    with pytest.raises(ImageError, match=r"a\.jpg: .*damaged or truncated"):
        read_volume(tmp_path / "a.jpg")


def scans(content: bytes) -> list[int]:
    """Where the scans of a JPEG begin."""
    return [place.start() for place in re.finditer(rb"\xff\xda", content)]


@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 3)])
def test_a_progressive_picture_without_its_last_scans_is_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    content = jpeg(noise(*shape), progressive=True)
    for place in scans(content)[1:]:
        (tmp_path / "a.jpg").write_bytes(content[:place] + b"\xff\xd9")
        with pytest.raises(ImageError, match=r"a\.jpg: .*scans of it are missing"):
            read_volume(tmp_path / "a.jpg")


def test_an_inner_scan_that_lost_its_end_is_refused(tmp_path: Path) -> None:
    content = jpeg(noise(64, 64), progressive=True)
    for place in scans(content)[1:]:
        (tmp_path / "a.jpg").write_bytes(content[: place - 40] + content[place:])
        with pytest.raises(ImageError, match=r"a\.jpg: .*damaged or truncated"):
            read_volume(tmp_path / "a.jpg")


@pytest.mark.parametrize("lost", ["its last", "one", "eight", "the end of one"])
@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 3)])
def test_intervals_that_are_lost_are_refused(
    tmp_path: Path, shape: tuple[int, ...], lost: str
) -> None:
    content = jpeg(noise(*shape), restart_marker_blocks=1)
    marks = [place.start() for place in re.finditer(rb"\xff[\xd0-\xd7]", content)]
    without = {
        "its last": content[: marks[-1]] + b"\xff\xd9",
        "one": content[: marks[3]] + content[marks[4] :],
        "eight": content[: marks[3]] + content[marks[11] :],
        "the end of one": content[: marks[3] - 20] + content[marks[3] :],
    }
    (tmp_path / "a.jpg").write_bytes(without[lost])
    with pytest.raises(ImageError, match=r"a\.jpg: .*damaged or truncated"):
        read_volume(tmp_path / "a.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.jpg").write_bytes(jpeg(noise(24, 16, 3), exif=exif))
    with Image.open(tmp_path / "a.jpg") as opened:
        shown = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.jpg").array, shown.T)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_webp_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise(24, 16, 3)).save(tmp_path / "a.png", "WEBP", lossless=True, exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        shown = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.png").array, shown.T)


def test_a_label_map_may_not_be_lossy_whatever_its_name(tmp_path: Path) -> None:
    mask = np.kron(np.eye(4), np.ones((16, 16))).astype(np.uint8) * 255
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).write_bytes(jpeg(mask, quality=100))
        with pytest.raises(ImageError, match=r"packed with loss \(JPEG\)"):
            read_label(tmp_path / name)
        assert read_volume(tmp_path / name).shape == (64, 64)
    Image.fromarray(mask).convert("RGB").save(tmp_path / "b.png", "WEBP", quality=80)
    with pytest.raises(ImageError, match=r"packed with loss \(WebP\)"):
        read_label(tmp_path / "b.png")
    Image.fromarray(mask).convert("RGB").save(tmp_path / "c.png", "WEBP", lossless=True)
    np.testing.assert_array_equal(read_label(tmp_path / "c.png").array[0], mask.T)


def test_without_loss_all_bits_are_read(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 4096, (24, 16)).astype(np.uint16)
    content = imagecodecs.jpeg_encode(array, bitspersample=12, lossless=True)
    (tmp_path / "a.jpg").write_bytes(content)
    for read in (read_volume, read_label):
        np.testing.assert_array_equal(read(tmp_path / "a.jpg").array[0], array.T)


def test_twelve_bits_are_read_for_images(tmp_path: Path) -> None:
    array = np.add.outer(np.arange(24) * 100, np.arange(16) * 90).astype(np.uint16)
    content = imagecodecs.jpeg_encode(array, level=98, bitspersample=12)
    (tmp_path / "a.jpg").write_bytes(content)
    read = read_volume(tmp_path / "a.jpg").array[0].T.astype(int)
    assert np.abs(read - array).max() < 16
    assert read.max() > 3000
    with pytest.raises(ImageError, match="packed with loss"):
        read_label(tmp_path / "a.jpg")


def test_a_file_of_several_pictures_is_refused(tmp_path: Path) -> None:
    first, second = Image.fromarray(noise(32, 32, 3)), Image.fromarray(noise(32, 32, 3) // 2)
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    with pytest.raises(ImageError, match=r"holds 2 pictures \(MPO\)"):
        read_volume(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(jpeg(noise(32, 32)) + jpeg(noise(32, 32) // 2))
    with pytest.raises(ImageError, match="another picture behind the first"):
        read_volume(tmp_path / "b.jpg")


def test_the_preview_of_a_camera_is_no_second_picture(tmp_path: Path) -> None:
    first = Image.fromarray(noise(32, 32, 3))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[first.resize((8, 8))])
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    # The second entry of the index of pictures (CIPA DC-007): 16 bytes each, the kind in front.
    with Image.open(tmp_path / "a.jpg") as opened:
        size = opened.mpinfo[0xB002][1]["Size"]
    place = content.index(size.to_bytes(4, "little")) - 4
    content[place : place + 4] = (0x010001).to_bytes(4, "little")
    (tmp_path / "a.jpg").write_bytes(content)
    assert read_volume(tmp_path / "a.jpg").array.shape == (3, 32, 32)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_other_formats_are_told_by_their_content(tmp_path: Path, kind: str) -> None:
    frames = [Image.fromarray(noise(16, 16) // 2 + 60 * k) for k in range(3)]
    frames[0].save(tmp_path / "a.png", kind)
    assert read_volume(tmp_path / "a.png").shape == (16, 16)
    frames[0].save(tmp_path / "b.png", kind, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=rf"holds 3 pictures \({kind}\)"):
        read_volume(tmp_path / "b.png")
    frames[0].save(tmp_path / "c.png", "ICO")
    with pytest.raises(ImageError, match="a picture of the format ICO"):
        read_volume(tmp_path / "c.png")


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("kind", ["BMP", "GIF", "WEBP"])
def test_other_formats_are_refused_if_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, lenient: bool
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    Image.fromarray(noise(64, 64)).save(tmp_path / "a.bmp", kind)
    content = (tmp_path / "a.bmp").read_bytes()
    (tmp_path / "a.bmp").write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(ImageError, match="damaged or truncated"):
        read_volume(tmp_path / "a.bmp")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is lenient
