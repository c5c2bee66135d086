"""nnU-Net's raw layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg_nca.datasets.find import open_dataset
from medseg_nca.errors import DataError

Put = Callable[..., Path]


def make(root: Path, put: Put, channels: int = 2, **listing: Any) -> Path:
    for name in ("x", "y"):
        for channel in range(channels):
            put(root / "imagesTr" / f"{name}_{channel:04d}.nii.gz")
        put(root / "labelsTr" / f"{name}.nii.gz")
    if listing:
        put(root / "dataset.json", {"file_ending": ".nii.gz", **listing})
    return root


def test_channels_of_a_case_belong_together(tmp_path: Path, put: Put) -> None:
    root = make(
        tmp_path, put, channel_names={"0": "T2", "1": "ADC"}, labels={"background": 0, "zone": 1}
    )
    dataset = open_dataset(root)
    assert (dataset.format, dataset.dims, dataset.channels) == ("nnunet", 3, ("T2", "ADC"))
    assert [case.id for case in dataset.cases] == ["x", "y"]
    assert [file.name for file in dataset.cases[0].images] == ["x_0000.nii.gz", "x_0001.nii.gz"]
    assert dataset.cases[0].label == root / "labelsTr" / "x.nii.gz"
    assert dataset.labels is not None
    assert not dataset.labels.multi_label


def test_regions_make_a_multi_label_table(tmp_path: Path, put: Put) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    root = make(
        tmp_path, put, 1, channel_names={"0": "CT"}, labels=labels, regions_class_order=[1, 2, 3]
    )
    table = open_dataset(root).labels
    assert table is not None
    assert table.multi_label
    assert [(x.name, x.values, x.written) for x in table.labels] == [
        ("whole", (1, 2, 3), 1),
        ("core", (2, 3), 2),
        ("enhancing", (3,), 3),
    ]


def test_without_a_listing_channels_are_numbered(tmp_path: Path, put: Put) -> None:
    dataset = open_dataset(make(tmp_path, put))
    assert dataset.channels == ("channel_0", "channel_1")
    assert dataset.labels is None


def test_pictures_in_colour_are_one_file(tmp_path: Path, put: Put) -> None:
    rgb = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    put(tmp_path / "imagesTr" / "x_0000.png", rgb)
    put(tmp_path / "labelsTr" / "x.png", (4, 4))
    names = {"0": "R", "1": "G", "2": "B"}
    put(
        tmp_path / "dataset.json",
        {"file_ending": ".png", "channel_names": names, "labels": {"background": 0, "road": 1}},
    )
    dataset = open_dataset(tmp_path)
    assert (dataset.dims, len(dataset.cases[0].images), len(dataset.channels)) == (2, 1, 3)


def test_a_missing_channel_is_a_missing_file(tmp_path: Path, put: Put) -> None:
    root = make(tmp_path, put, channel_names={"0": "T2", "1": "ADC"}, labels={"zone": 1})
    (root / "imagesTr" / "y_0001.nii.gz").unlink()
    with pytest.raises(DataError, match=r"missing: .*y_0001\.nii\.gz"):
        open_dataset(root)


def test_the_ignore_label_is_refused(tmp_path: Path, put: Put) -> None:
    root = make(tmp_path, put, 1, channel_names={"0": "CT"}, labels={"zone": 1, "ignore": 2})
    with pytest.raises(DataError, match="'ignore' label"):
        open_dataset(root)


def test_numbered_files_of_the_decathlon_are_not_mistaken(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "imagesTr" / "case_0000.nii.gz")
    entry = {"image": "imagesTr/case_0000.nii.gz"}
    put(tmp_path / "dataset.json", {"modality": {"0": "CT"}, "training": [entry]})
    assert open_dataset(tmp_path).format == "msd"
