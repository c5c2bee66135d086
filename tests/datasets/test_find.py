"""Data sets are recognised by looking; what cannot be opened says why and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medseg_nca.datasets.find import adapters, missing_files, open_dataset
from medseg_nca.errors import DataError

Put = Callable[..., Path]


def test_every_adapter_is_known_in_the_order_of_trial() -> None:
    assert tuple(adapters()) == ("phantom", "nnunet", "msd", "datalist", "folders", "dicom")


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: there is no such folder"):
        open_dataset(tmp_path / "nowhere")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the folder is empty\. .*data phantom"):
        open_dataset(tmp_path)


def test_nothing_recognised_names_the_layouts(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "notes.txt", "hello")
    with pytest.raises(DataError, match=r"not a data set in a known layout") as caught:
        open_dataset(tmp_path)
    assert all(f"{name}: " in caught.value.message for name in adapters())


def test_a_folder_too_high_up_is_told_so(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "set" / "images" / "a.nii.gz")
    with pytest.raises(DataError, match=r"Did you mean .*set\?"):
        open_dataset(tmp_path)


def test_a_prepared_folder_is_told_so(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "prepared.json", {})
    with pytest.raises(DataError, match="prepared for training"):
        open_dataset(tmp_path)


def test_an_unknown_format_suggests_the_nearest(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "images" / "a.nii.gz")
    with pytest.raises(DataError, match=r"data format 'folder'; did you mean 'folders'"):
        open_dataset(tmp_path, "folder")


def test_a_named_format_is_taken_even_if_another_looks_nearer(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "images" / "a.nii.gz")
    put(tmp_path / "datalist.csv", "image\nimages/a.nii.gz\n")
    assert open_dataset(tmp_path).format == "datalist"
    assert open_dataset(tmp_path, "folders").format == "folders"


def test_missing_files_are_named(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "a.nii.gz")
    put(tmp_path / "datalist.csv", "image,label\na.nii.gz,gone.nii.gz\n")
    with pytest.raises(DataError, match=r"1 file\(s\) are missing: .*gone\.nii\.gz.*data check"):
        open_dataset(tmp_path)
    dataset = open_dataset(tmp_path, check_files=False)
    assert missing_files(dataset) == {"a": [tmp_path / "gone.nii.gz"]}
