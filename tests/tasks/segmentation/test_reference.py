"""The stored prediction by which a model is recognised."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import numpy as np
import pytest

from medseg_nca.config import PreprocessPlan
from medseg_nca.config.plan import ChannelStatistics
from medseg_nca.errors import ModelError
from medseg_nca.inference.bundle import LoadedModel, load_bundle, save_bundle
from medseg_nca.tasks.segmentation.reference import (
    check_reference,
    make_reference,
    synthetic_volume,
)
from tests.tracking.tiny import save_tiny


def load(folder: Path, **how: int) -> LoadedModel:
    save_tiny(folder, **how)
    loaded = load_bundle(folder, "cpu")
    save_bundle(folder, loaded.model, loaded.spec.changed(reference=make_reference(loaded)))
    return load_bundle(folder, "cpu")


def with_reference(loaded: LoadedModel, **changes: str) -> LoadedModel:
    reference = {**(loaded.spec.reference or {}), **changes}
    spec = loaded.spec.model_copy(update={"reference": reference})
    return LoadedModel(loaded.model, spec, loaded.folder, loaded.device)


def with_other_voxels(loaded: LoadedModel, count: int) -> LoadedModel:
    """The stored label map with the first ``count`` voxels changed."""
    stored = loaded.spec.reference or {}
    labels = np.frombuffer(zlib.decompress(base64.b64decode(stored["label_map"])), "<u2").copy()
    labels[:count] += 1
    text = base64.b64encode(zlib.compress(labels.tobytes())).decode()
    return with_reference(loaded, sha256="0" * 64, label_map=text)


@pytest.mark.parametrize(("dims", "channels"), [(3, 1), (2, 3)])
def test_a_model_reproduces_its_prediction(tmp_path: Path, dims: int, channels: int) -> None:
    loaded = load(tmp_path, dims=dims, channels=channels)
    reference = loaded.spec.reference
    assert reference is not None
    assert reference["shape"] == "x".join(["12"] * dims)
    labels = np.frombuffer(zlib.decompress(base64.b64decode(reference["label_map"])), "<u2")
    assert len(np.unique(labels)) > 1, "a constant map would recognise nothing"
    agreement = check_reference(loaded)
    assert agreement.identical
    assert agreement.passed


def test_other_weights_do_not(tmp_path: Path) -> None:
    reference = make_reference(load(tmp_path / "a"))
    other = with_reference(load(tmp_path / "b", seed=1), **reference)
    agreement = check_reference(other)
    assert not agreement.passed
    assert float(agreement.detail.partition("%")[0]) < 95


def test_a_voxel_on_the_edge_may_differ_but_not_many(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    one = check_reference(with_other_voxels(loaded, 1))
    assert (one.identical, one.passed) == (False, True)
    assert one.detail == f"{1 - 1 / 12**3:.2%} of the voxels agree"
    assert not check_reference(with_other_voxels(loaded, 100)).passed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"volume": "waves-99"}, "waves-99"),
        ({"sha256": "", "label_map": "AAAA"}, "damaged"),
        ({"sha256": "", "label_map": base64.b64encode(zlib.compress(b"12")).decode()}, "damaged"),
    ],
)
def test_a_reference_that_cannot_be_used(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        check_reference(with_reference(load(tmp_path), **changes))


def test_a_model_without_one_says_what_to_do(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    with pytest.raises(ModelError, match="no stored prediction") as caught:
        check_reference(load_bundle(tmp_path, "cpu"))
    assert "models register" in str(caught.value.hint)


def test_the_volume_has_the_plans_grid_and_intensities() -> None:
    plan = PreprocessPlan(
        dims=3,
        channels=("CT",),
        modality="CT",
        spacing=(0.5, 1.0, 2.0),
        normalise="ct",
        statistics=(ChannelStatistics(mean=50, sd=30, low=-100, high=200),),
        crop_size=(64, 20, 8),
    )
    volume = synthetic_volume(plan)
    assert volume.array.shape == (1, 24, 20, 8)
    assert volume.array.dtype == np.float32
    assert volume.spacing == (0.5, 1.0, 2.0)
    assert volume.array.min() >= -100
    assert volume.array.max() <= 200
    assert volume.array.std() > 20
    assert np.array_equal(volume.array, synthetic_volume(plan).array)
