"""The hash follows content, and nothing else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from medseg_nca.datasets.base import Case, DataSet
from medseg_nca.datasets.hashing import KnownHashes, dataset_hash, file_hash
from medseg_nca.errors import DataError


def dataset(root: Path, *cases: Case) -> DataSet:
    return DataSet("x", root, "folders", 3, ("image",), cases)


def case(root: Path, name: str, image: str, label: str | None = None) -> Case:
    root.mkdir(exist_ok=True)
    (root / f"{name}.img").write_text(image)
    if label is not None:
        (root / f"{name}.lab").write_text(label)
    return Case(name, (root / f"{name}.img",), None if label is None else root / f"{name}.lab")


def test_a_file_is_hashed_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"abc")
    assert file_hash(file) == hashlib.sha256(b"abc").hexdigest()


def test_place_and_order_do_not_count(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    first = [case(here, "a", "1", "l"), case(here, "b", "2")]
    second = [case(there, "b", "2"), case(there, "a", "1", "l")]
    assert dataset_hash(dataset(here, *first)) == dataset_hash(dataset(there, *second))


@pytest.mark.parametrize(
    ("name", "image", "label"),
    [("z", "1", "l"), ("a", "9", "l"), ("a", "1", "x"), ("a", "1", None)],
)
def test_id_image_and_label_count(tmp_path: Path, name: str, image: str, label: str | None) -> None:
    before = dataset_hash(dataset(tmp_path, case(tmp_path / "one", "a", "1", "l")))
    after = dataset_hash(dataset(tmp_path, case(tmp_path / "two", name, image, label)))
    assert before != after


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    """Other content that keeps size and time of the file is not noticed, so it was not read."""
    one = case(tmp_path, "a", "1")
    first = dataset_hash(dataset(tmp_path, one))
    file = one.images[0]
    before = file.stat()
    with file.open("r+") as stream:
        stream.write("2")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert dataset_hash(dataset(tmp_path, one)) == first
    one.images[0].write_text("22")
    assert dataset_hash(dataset(tmp_path, one)) != first


def test_only_the_newest_hashes_are_kept() -> None:
    hashes = KnownHashes(most=3)
    for size in range(10):
        hashes.add(("file", size, 0), str(size))
    known = [hashes.find(("file", size, 0)) for size in range(10)]
    assert known == [None] * 7 + ["7", "8", "9"]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: cannot be read"):
        dataset_hash(dataset(tmp_path, Case("a", (tmp_path / "gone",))))
