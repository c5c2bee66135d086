"""The decathlon's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medseg_nca.datasets.find import open_dataset
from medseg_nca.errors import DataError

Put = Callable[..., Path]

LISTING: dict[str, Any] = {
    "name": "Brain",
    "licence": "CC-BY-SA 4.0",
    "tensorImageSize": "4D",
    "modality": {"0": "FLAIR", "1": "T1w"},
    "labels": {"0": "background", "1": "oedema", "2": "tumour"},
    "training": [
        {"image": "./imagesTr/b.nii.gz", "label": "./labelsTr/b.nii.gz"},
        {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"},
    ],
    "test": ["./imagesTs/c.nii.gz"],
}


def make(root: Path, put: Put, **changes: Any) -> Path:
    for name in "ab":
        put(root / "imagesTr" / f"{name}.nii.gz", (4, 4, 3, 2))
        put(root / "labelsTr" / f"{name}.nii.gz", (4, 4, 3))
    put(root / "dataset.json", {**LISTING, **changes})
    return root


def test_reads_cases_channels_and_labels(tmp_path: Path, put: Put) -> None:
    dataset = open_dataset(make(tmp_path, put))
    assert (dataset.name, dataset.format, dataset.dims) == ("Brain", "msd", 3)
    assert dataset.channels == ("FLAIR", "T1w")
    assert dataset.modality == "MRI"
    assert dataset.licence == "CC-BY-SA 4.0"
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert dataset.cases[0].images == (tmp_path / "imagesTr" / "a.nii.gz",)
    assert dataset.cases[0].label == tmp_path / "labelsTr" / "a.nii.gz"
    assert dataset.labels is not None
    assert [(label.name, label.values) for label in dataset.labels.labels] == [
        ("oedema", (1,)),
        ("tumour", (2,)),
    ]


def test_the_listing_itself_can_be_named(tmp_path: Path, put: Put) -> None:
    make(tmp_path, put)
    assert open_dataset(tmp_path / "dataset.json", "msd").root == tmp_path


def test_ct_is_known_and_the_dimension_is_looked_up(tmp_path: Path, put: Put) -> None:
    entry = {"image": "a.nii.gz", "label": "b.nii.gz"}
    put(tmp_path / "a.nii.gz", (4, 4))
    put(tmp_path / "b.nii.gz", (4, 4))
    listing = {"modality": {"0": "CT"}, "labels": {"1": "liver"}, "training": [entry]}
    put(tmp_path / "dataset.json", listing)
    dataset = open_dataset(tmp_path)
    assert (dataset.dims, dataset.modality, dataset.name) == (2, "CT", tmp_path.name)


@pytest.mark.parametrize(
    "entry", ["../secret.nii.gz", "/etc/passwd", "a/../../b.nii.gz", "C:\\x.nii.gz", "", 7]
)
def test_entries_may_not_leave_the_folder(tmp_path: Path, put: Put, entry: Any) -> None:
    make(tmp_path, put, training=[{"image": entry}])
    with pytest.raises(DataError, match=r"leads out of|is not the name of a file"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"training": []}, "at least one case"),
        ({"training": [{"label": "x"}]}, "needs 'image'"),
        ({"modality": {"1": "CT"}}, r"numbered 0, 1"),
        ({"labels": {"one": "liver"}}, "whole number"),
        ({"labels": {"1": "liver", "2": "liver"}}, "names must differ"),
        ({"labels": ["liver"]}, "mapping of names and numbers"),
        ({"training": [{"image": "x/a.nii.gz"}, {"image": "y/a.nii.gz"}]}, "more than once"),
    ],
)
def test_a_listing_that_makes_no_sense(
    tmp_path: Path, put: Put, changes: dict[str, Any], complaint: str
) -> None:
    make(tmp_path, put, **changes)
    with pytest.raises(DataError, match=complaint):
        open_dataset(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_listing_that_is_no_json_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset\.json: (is not valid JSON|must hold)"):
        open_dataset(tmp_path)


def test_odd_file_names_become_safe_ids(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "images Tr" / "a b#1.nii.gz")
    entry = {"image": "images Tr/a b#1.nii.gz"}
    make(tmp_path, put, training=[entry], tensorImageSize="3D")
    assert open_dataset(tmp_path).cases[0].id == "a_b_1"


def test_the_real_hippocampus(shared_data: Callable[[str], Path]) -> None:
    dataset = open_dataset(shared_data("Task04_Hippocampus"))
    assert (dataset.format, dataset.dims, len(dataset.labelled)) == ("msd", 3, 200)
    assert dataset.labels is not None
    assert dataset.labels.names == ("Anterior", "Posterior")
