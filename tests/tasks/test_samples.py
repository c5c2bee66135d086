"""Crops of overlapping labels: the first label is a label, not the background."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg_nca.config import Label, LabelTable, PreprocessPlan
from medseg_nca.config.data import AugmentSettings
from medseg_nca.datasets.prepared import (
    PreparedCase,
    PreparedIndex,
    PreparedStore,
    array_file,
    write_store,
)
from medseg_nca.tasks.samples import SampleSource


def store_of(folder: Path) -> PreparedStore:
    """One image of 64 x 64 with four voxels of the first of two overlapping labels."""
    label = np.zeros((2, 64, 64), np.uint8)
    label[0, 3:5, 60:62] = 1
    array_file(folder, "a").parent.mkdir(parents=True)
    np.savez(array_file(folder, "a"), image=np.zeros((1, 64, 64), np.float32), label=label)
    labels = (Label(name="whole", values=(1, 2), write=1), Label(name="core", values=(2,)))
    index = PreparedIndex(
        package_version="0", name="test", modality="MR", dataset_hash="0",
        labels=LabelTable(labels=labels, multi_label=True),
        cases=(PreparedCase(id="a", images=(Path("a"),), shape=(64, 64), key="k"),),
    )  # fmt: skip
    plan = PreprocessPlan(dims=2, channels=("MR",), crop_size=(16, 16))
    return write_store(folder, index, plan)


def test_crops_are_centred_on_any_label(tmp_path: Path) -> None:
    source = SampleSource(store_of(tmp_path), ["a"], AugmentSettings(enabled=False), 0, 1.0)
    for index in range(10):
        sample = source[index]
        assert sample["image"].shape == (1, 16, 16)
        assert sample["label"].shape == (2, 16, 16)
        assert sample["label"][0].any()
        x, y = sample["focus"].tolist()
        assert sample["label"][0, x, y] == 1
