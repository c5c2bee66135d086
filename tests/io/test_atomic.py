"""Files and folders appear whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from medseg_nca.errors import OutputError
from medseg_nca.io.atomic import (
    atomic_file,
    atomic_folder,
    remove_leftovers,
    write_json,
    write_text,
)


def test_a_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "old")
    write_text(path, "grüße")
    assert path.read_text(encoding="utf-8") == "grüße"
    assert os.listdir(path.parent) == ["a.txt"]


def test_the_temporary_name_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == tmp_path
        temporary.touch()


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "f") as new:
        (new / "old").touch()

    def fail() -> None:
        with atomic_folder(tmp_path / "f") as new:
            (new / "half").touch()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert os.listdir(tmp_path) == ["f"]
    assert os.listdir(tmp_path / "f") == ["old"]
    with atomic_folder(tmp_path / "f") as new:
        (new / "whole").touch()
    assert os.listdir(tmp_path / "f") == ["whole"]


def test_what_cannot_be_written_is_an_output_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/a\.txt: cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder: cannot be written"):
        write_text(tmp_path / "folder", "x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full stands for a full disk")
def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_file(tmp_path / "a.bin"), Path("/dev/full").open("wb") as full:
            full.write(b"x" * 100_000)

    with pytest.raises(OutputError, match=r"a\.bin.*No space left"):
        fill()
    assert os.listdir(tmp_path) == []


def test_json_takes_what_results_hold(tmp_path: Path) -> None:
    tree = {
        "path": Path("a/b"),
        "array": np.arange(3),
        "number": np.float32(0.5),
        "nothing": float("nan"),
        "inner": (np.inf, None, True, "ä"),
        3: "key",
    }
    write_json(tmp_path / "a.json", tree)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {
        "path": "a/b",
        "array": [0, 1, 2],
        "number": 0.5,
        "nothing": None,
        "inner": [None, None, True, "ä"],
        "3": "key",
    }


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".0123abcd.part.a.npz").touch()
    (tmp_path / ".hidden").touch()
    (tmp_path / "a.part.npz").touch()
    assert remove_leftovers(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == [".hidden", "a.part.npz"]
