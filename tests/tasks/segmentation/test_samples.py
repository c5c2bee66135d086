"""Samples hold what they are centred on, and lie on the cells of inference."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg_nca.config import Label, LabelTable, PreprocessPlan
from medseg_nca.config.data import AugmentSettings
from medseg_nca.datasets.prepared import (
    PreparedCase,
    PreparedIndex,
    PreparedStore,
    array_file,
    write_store,
)
from medseg_nca.inference.predictor import stream_padded
from medseg_nca.models import RunOptions
from medseg_nca.models.geometry import shrink
from medseg_nca.models.views import ViewSpec
from medseg_nca.tasks.segmentation.samples import SampleSource
from medseg_nca.training.level_loss import overflow


def store_of(folder: Path) -> PreparedStore:
    """One image of 64 x 64 with four voxels of the first of two overlapping labels."""
    label = np.zeros((2, 64, 64), np.uint8)
    label[0, 3:5, 60:62] = 1
    image = np.random.default_rng(0).normal(size=(1, 64, 64)).astype(np.float32)
    array_file(folder, "a").parent.mkdir(parents=True)
    np.savez(array_file(folder, "a"), image=image, label=label)
    labels = (Label(name="whole", values=(1, 2), write=1), Label(name="core", values=(2,)))
    index = PreparedIndex(
        package_version="0", name="test", modality="MR", dataset_hash="0",
        labels=LabelTable(labels=labels, multi_label=True),
        cases=(PreparedCase(id="a", images=(Path("a"),), shape=(64, 64), key="k"),),
    )  # fmt: skip
    plan = PreprocessPlan(dims=2, channels=("MR",), crop_size=(16, 16))
    return write_store(folder, index, plan)


@pytest.mark.parametrize("scale", [1, 4])
def test_crops_hold_any_label(tmp_path: Path, scale: int) -> None:
    specs = (ViewSpec((scale, scale)), ViewSpec((1, 1), (6, 6), patches=3))
    still = AugmentSettings(enabled=False)
    source = SampleSource(store_of(tmp_path), ["a"], specs, still, 0, 1.0)
    for index in range(10):
        sample = source[index]
        whole, patches = sample["views"]
        assert whole.image.shape == (1, 1, 16 // scale, 16 // scale)
        assert patches.image.shape == (3, 1, 6, 6)
        assert sample["targets"][0].shape == (1, 2, 16 // scale, 16 // scale)
        assert sample["targets"][0].sum() > 0
        assert all(target[0].any() for target in sample["targets"][1])


def test_levels_see_the_cells_that_inference_sees(tmp_path: Path) -> None:
    specs = (ViewSpec((4, 4)), ViewSpec((1, 1), (8, 8)))
    store = store_of(tmp_path)
    source = SampleSource(store, ["a"], specs, AugmentSettings(enabled=False), 0, 0.0)
    image = torch.from_numpy(store.load("a")[0])
    windows = shrink(image[None], (4, 4))[0].unfold(1, 4, 1).unfold(2, 4, 1)
    cells = {bytes(window.contiguous().numpy()) for window in windows.reshape(-1, 4, 4)}
    for index in range(20):
        view = source[index]["views"][0]
        assert bytes(view.image[0, 0].contiguous().numpy()) in cells


def test_a_smaller_image_lies_where_the_predictor_puts_it(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    plan = store.plan.model_copy(update={"crop_size": (80, 72)})
    store = PreparedStore(store.folder, store.index, plan)
    specs = (ViewSpec((16, 8)), ViewSpec((1, 1)))
    views = SampleSource(store, ["a"], specs, AugmentSettings(enabled=False), 0, 0.0)[0]["views"]
    seen: list[torch.Tensor] = []

    class Seen:
        def stream(self, image: torch.Tensor, *_: object) -> None:
            seen.append(image)

    image = torch.from_numpy(store.load("a")[0])[None]
    stream_padded(Seen(), image, (80, 72), RunOptions(), lambda *_: None)  # type: ignore[arg-type]
    torch.testing.assert_close(views[1].image, seen[0])
    torch.testing.assert_close(views[0].image, shrink(seen[0], (16, 8)))


def test_samples_can_be_made_in_another_process(tmp_path: Path) -> None:
    specs = (ViewSpec((4, 4)), ViewSpec((1, 1), (6, 6)))
    source = SampleSource(store_of(tmp_path), ["a"], specs, AugmentSettings(), 0, 0.5)
    before = source[3]["views"][1].image
    other = pickle.loads(pickle.dumps(source))
    assert torch.equal(other[3]["views"][1].image, before)
    assert len(pickle.dumps(source)) < 20_000  # the cases are not sent


def test_overflow_is_the_distance_from_the_bounds() -> None:
    state = torch.tensor([-12.0, 0.0, 10.0, 14.0]).view(1, 1, 4)
    assert overflow(state, 10.0).item() == (2 + 4) / 4
    assert overflow(None, 10.0).item() == 0.0
