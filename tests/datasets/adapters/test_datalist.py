"""Lists of files, CSV and JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medseg_nca.datasets.base import DataSet
from medseg_nca.datasets.find import open_dataset
from medseg_nca.errors import DataError

Put = Callable[..., Path]


def open_list(root: Path, put: Put, name: str, content: Any) -> DataSet:
    for file in "abc":
        put(root / f"{file}.nii.gz")
    return open_dataset(put(root / name, content), check_files=False)


def test_csv_with_all_columns(tmp_path: Path, put: Put) -> None:
    text = (
        "\ufeffImage,label,id,patient,site,split\n"
        "a.nii.gz,b.nii.gz,one,p 1,Ulm,Training\n"
        f"{tmp_path / 'c.nii.gz'},,,,,test\n\n"
    )
    dataset = open_list(tmp_path, put, "datalist.csv", text)
    second, first = dataset.cases
    assert (first.id, first.patient, first.site, first.split) == ("one", "p 1", "Ulm", "train")
    assert first.label == tmp_path / "b.nii.gz"
    assert (second.id, second.patient, second.label, second.split) == ("c", None, None, "test")
    assert open_dataset(tmp_path, check_files=False).cases == dataset.cases


def test_a_file_for_each_channel(tmp_path: Path, put: Put) -> None:
    dataset = open_list(tmp_path, put, "l.csv", "image_1,image_0\nb.nii.gz,a.nii.gz\n")
    assert [file.name for file in dataset.cases[0].images] == ["a.nii.gz", "b.nii.gz"]
    assert dataset.channels == ("channel_0", "channel_1")


def test_files_of_one_name_get_the_name_of_their_folder(tmp_path: Path, put: Put) -> None:
    for folder in ("p1", "p2"):
        put(tmp_path / folder / "t1.nii.gz")
    dataset = open_list(tmp_path, put, "l.csv", "image\np1/t1.nii.gz\np2/t1.nii.gz\n")
    assert [case.id for case in dataset.cases] == ["p1_t1", "p2_t1"]


def test_json_list(tmp_path: Path, put: Put) -> None:
    rows = [{"image": ["a.nii.gz", "b.nii.gz"], "label": "c.nii.gz", "patient": 7}]
    dataset = open_list(tmp_path, put, "l.json", rows)
    assert dataset.cases[0].patient == "7"
    assert dataset.cases[0].split is None
    assert len(dataset.channels) == 2


def test_monai_datalist_with_sections(tmp_path: Path, put: Put) -> None:
    tree = {
        "name": "set",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "spleen"},
        "training": [{"image": "./a.nii.gz", "label": "./a.nii.gz", "fold": 0}],
        "validation": [{"image": "./b.nii.gz", "label": "./b.nii.gz"}],
        "testing": ["./c.nii.gz"],
    }
    dataset = open_list(tmp_path, put, "l.json", tree)
    assert [case.split for case in dataset.cases] == ["train", "val", "test"]
    assert (dataset.name, dataset.modality, dataset.channels) == ("set", "CT", ("CT",))


def test_training_alone_prescribes_no_side(tmp_path: Path, put: Put) -> None:
    dataset = open_list(tmp_path, put, "l.json", {"training": [{"image": "a.nii.gz"}]})
    assert dataset.cases[0].split is None


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "l.csv",
            "imag,label\na.nii.gz,b.nii.gz\n",
            r"no column 'image'.*Rename the column 'imag'",
        ),
        ("l.csv", "", "no column 'image'"),
        ("l.csv", "image\n", "lists no case"),
        ("l.csv", "image,split\na.nii.gz,holdout\n", r"line 2: the split 'holdout'"),
        ("l.csv", "image,label\n,b.nii.gz\n", r"line 2: names no image"),
        ("l.csv", "image\n/etc/passwd\n", r"not an image file of a known format"),
        ("l.csv", "image\na.nii.gz\na.nii.gz\n", "more than once"),
        ("l.json", "text", "must hold a list"),
        ("l.json", {"training": {}}, "'training' must be a list"),
        ("l.json", [3], r"training\[0\] must be an object"),
        ("l.json", [{"image": [3]}], r"3 is not the name of a file"),
    ],
)
def test_a_list_that_makes_no_sense(
    tmp_path: Path, put: Put, name: str, content: Any, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        open_list(tmp_path, put, name, content)


def test_a_list_in_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "l.csv"
    file.write_bytes("image\nä.nii.gz\n".encode("latin-1"))
    with pytest.raises(DataError, match="not a readable CSV"):
        open_dataset(file)
