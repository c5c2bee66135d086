"""Pairs of images and targets: layouts, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medseg_nca.config.data import SplitSettings
from medseg_nca.datasets.pairs import open_pairs
from medseg_nca.datasets.splits import make_split
from medseg_nca.errors import ConfigError, DataError
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_volume


def write(path: Path, value: float = 0) -> None:
    array = np.arange(16, dtype=np.float32).reshape(1, 4, 4) + value
    write_volume(Volume(array, np.eye(4)), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        write(tmp_path / "images" / f"p{number // 2}_{number}.tiff", number)
        write(tmp_path / "targets" / f"p{number // 2}_{number}.nii.gz", number)
    return tmp_path


def test_files_of_the_same_name_are_pairs(folder: Path) -> None:
    found = open_pairs(folder)
    assert [pair.id for pair in found.cases] == ["p0_0", "p0_1", "p1_2", "p1_3"]
    assert found.cases[2].target.name == "p1_2.nii.gz"
    assert found.name == folder.name
    assert found.notes.unknown is None


def test_notes_say_units_and_patients_who_stay_together(folder: Path) -> None:
    notes = 'name: two\nunit: mm\nunknown: -1\ntargets: [depth]\npatient: "^([^_]+)"\n'
    (folder / "dataset.yaml").write_text(notes)
    found = open_pairs(folder)
    assert (found.name, found.notes.unit, found.notes.unknown) == ("two", "mm", -1)
    split = make_split(found, SplitSettings(val=0.5, test=0))
    assert len(split.train) == len(split.val) == 2
    assert {name[:2] for name in split.train}.isdisjoint({name[:2] for name in split.val})


def test_a_list_names_pairs_wherever_they_lie_in_its_folder(folder: Path) -> None:
    tree = {
        "name": "listed",
        "pairs": [
            {"image": "images/p0_0.tiff", "target": "targets/p0_0.nii.gz", "split": "test"},
            {"image": ["images/p0_1.tiff", "images/p1_2.tiff"],
             "target": "targets/p0_1.nii.gz", "id": "b", "patient": "p"},
        ],
    }  # fmt: skip
    (folder / "mine.json").write_text(json.dumps(tree))
    first, second = sorted(open_pairs(folder / "mine.json").cases, key=lambda pair: pair.id)[::-1]
    assert (first.id, first.split) == ("p0_0", "test")
    assert (second.id, second.patient, len(second.images)) == ("b", "p", 2)


def test_the_hash_is_that_of_the_contents(folder: Path, tmp_path: Path) -> None:
    before = open_pairs(folder).hash
    assert open_pairs(folder).hash == before
    write(folder / "targets" / "p0_0.nii.gz", 100)
    assert open_pairs(folder).hash != before


def test_an_image_without_target_is_named(folder: Path) -> None:
    (folder / "targets" / "p1_2.nii.gz").unlink()
    with pytest.raises(DataError, match=r"1 of 4 images have no target: p1_2\.tiff"):
        open_pairs(folder)


def test_a_target_without_image_is_named(folder: Path) -> None:
    (folder / "images" / "p1_2.tiff").unlink()
    with pytest.raises(DataError, match=r"1 of 4 targets have no image: p1_2\.nii\.gz"):
        open_pairs(folder)


@pytest.mark.parametrize("name", ["labels", "masks", "labelsTr"])
def test_label_maps_are_for_segmentation(tmp_path: Path, name: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="label maps") as caught:
        open_pairs(tmp_path)
    assert "segmentation" in str(caught.value.hint)


def test_a_list_of_label_maps_is_for_segmentation(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"1": "a"}, "training": []}))
    with pytest.raises(DataError, match="pairs") as caught:
        open_pairs(tmp_path)
    assert "segmentation" in str(caught.value.hint)


def test_what_a_list_must_not_say(folder: Path) -> None:
    def opened(item: object) -> None:
        (folder / "dataset2.json").write_text(json.dumps({"pairs": [item]}))
        open_pairs(folder / "dataset2.json")

    with pytest.raises(ConfigError, match=r"pairs\.0.*target"):
        opened({"image": "images/p0_0.tiff", "targt": "x"})
    with pytest.raises(DataError, match="no such file"):
        opened({"image": "images/p0_0.tiff", "target": "targets/none.tiff"})
    with pytest.raises(DataError, match="leads out"):
        opened({"image": "../x.tiff", "target": "targets/p0_0.nii.gz"})


def test_nothing_there_is_said_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        open_pairs(tmp_path / "none")
    with pytest.raises(DataError, match="no folder targets/") as caught:
        open_pairs(tmp_path)
    assert "images/ and targets/" in str(caught.value.hint)
