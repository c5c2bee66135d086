from __future__ import annotations

from pathlib import Path

import pytest

from medseg_nca.errors import DataError
from medseg_nca.io.formats import find_images, half_images, image_suffix, stem


@pytest.mark.parametrize(
    ("name", "suffix", "rest"),
    [
        ("a.nii.gz", ".nii.gz", "a"),
        ("A.NII", ".nii", "A"),
        ("v1.2.nrrd", ".nrrd", "v1.2"),
        ("b.tiff", ".tiff", "b"),
        ("notes.txt", None, "notes"),
        ("archive.gz", None, "archive"),
    ],
)
def test_names(name: str, suffix: str | None, rest: str) -> None:
    assert image_suffix(Path(name)) == suffix
    assert stem(Path("folder") / name) == rest


def test_images_are_found_in_order_without_hidden_ones(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / ".cache").mkdir()
    for name in ("b.png", "a.nii.gz", "._a.nii.gz", "notes.txt", "in/c.mha", ".cache/d.png"):
        (tmp_path / name).touch()
    assert find_images(tmp_path) == [tmp_path / "a.nii.gz", tmp_path / "b.png"]
    assert tmp_path / "in" / "c.mha" in find_images(tmp_path, recursive=True)
    assert len(find_images(tmp_path, recursive=True)) == 3
    with pytest.raises(DataError, match="no such folder"):
        find_images(tmp_path / "absent")


def test_halves_of_images_are_named(tmp_path: Path) -> None:
    for name in ("b.raw", "d.nrrd", "dicom.img", "light.hdr"):
        (tmp_path / name).touch()
    assert half_images(tmp_path) is None
    for name in ("a.MHD", "c.nhdr", "e.hdr", "e.img"):
        (tmp_path / name).touch()
    assert "(a.MHD, c.nhdr, e.hdr): Save both as one file" in str(half_images(tmp_path))
