"""Reading a prepared data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medseg_nca.config import Label, LabelTable, PreprocessPlan
from medseg_nca.config.data import SplitSettings
from medseg_nca.datasets.prepared import (
    FailedCase,
    PreparedCase,
    PreparedIndex,
    PreparedStore,
    array_file,
    is_prepared,
    write_store,
)
from medseg_nca.datasets.splits import make_split
from medseg_nca.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cases = tuple(
        PreparedCase(
            id=name, patient=f"p{number // 2}", images=(Path(f"/x/{name}.nii"),),
            label=None if number == 5 else Path(f"/y/{name}.nii"), shape=(4, 5), key="k",
            foreground={"a": number},
        )
        for number, name in enumerate("abcdef")
    )  # fmt: skip
    index = PreparedIndex(
        package_version="0", name="toy", modality="MRI", dataset_hash="h",
        labels=LabelTable(labels=(Label(name="a", values=(1,)),)), cases=cases,
        failed=(FailedCase(id="z", error="broken"),),
    )  # fmt: skip
    plan = PreprocessPlan(dims=2, channels=("image",), crop_size=(4, 4))
    write_store(tmp_path, index, plan)
    for number, name in enumerate("abcdef"):
        path = array_file(tmp_path, name)
        path.parent.mkdir(exist_ok=True)
        arrays = {"image": np.full((1, 4, 5), number, np.float32)}
        if number != 5:
            arrays["label"] = np.ones((1, 4, 5), np.uint8)
        np.savez(path, **arrays)
    return tmp_path


def test_what_was_written_is_read(folder: Path) -> None:
    assert is_prepared(folder)
    store = PreparedStore.open(folder)
    assert (store.name, store.dataset_hash, store.plan.dims) == ("toy", "h", 2)
    assert store.labels.names == ("a",)
    assert [case.id for case in store.labelled] == list("abcde")
    assert store.failed[0].error == "broken"
    image, label = store.load("c")
    assert (image == 2).all()
    assert label.dtype == np.uint8
    assert store.load("f")[1] is None


def test_it_can_be_split(folder: Path) -> None:
    split = make_split(PreparedStore.open(folder), SplitSettings(val=0.3, test=0.3))
    assert sorted(split.side("all")) == list("abcde")
    assert split.dataset_hash == "h"
    sides = [{name: side for side in ("train", "val", "test") for name in split.side(side)}]
    assert sides[0]["a"] == sides[0]["b"]


def test_what_is_not_there(folder: Path, tmp_path: Path) -> None:
    store = PreparedStore.open(folder)
    with pytest.raises(DataError, match=r"there is no case '\.\./c'"):
        store.load("../c")
    array_file(folder, "a").unlink()
    with pytest.raises(DataError, match=r"a\.npz: cannot be read.*preprocess"):
        store.load("a")
    assert not is_prepared(tmp_path / "absent")
    with pytest.raises(DataError, match=r"is not a prepared data set.*preprocess"):
        PreparedStore.open(tmp_path / "absent")


def test_a_damaged_index_is_named(folder: Path) -> None:
    path = folder / "prepared.json"
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({**tree, "format_version": 99}))
    with pytest.raises(DataError, match=r"prepared\.json: .*another version \(format_version"):
        PreparedStore.open(folder)
    path.write_text("{")
    with pytest.raises(DataError, match=r"prepared\.json: is damaged"):
        PreparedStore.open(folder)


def test_pickled_arrays_are_never_loaded(folder: Path) -> None:
    np.savez(array_file(folder, "a"), image=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="cannot be read"):
        PreparedStore.open(folder).load("a")


def test_a_case_cannot_lead_out_of_the_folder(folder: Path) -> None:
    index = folder / "prepared.json"
    tree = json.loads(index.read_text())
    tree["cases"][0]["id"] = "../../secret"
    index.write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"cases\.0\.id"):
        PreparedStore.open(folder)
