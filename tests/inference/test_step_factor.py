"""A predictor takes more or fewer steps than the model was trained with, by one option."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.config import Label, LabelTable, PreprocessPlan
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ConfigError
from medseg_nca.inference.bundle import LoadedModel, ModelSpec, load_bundle, save_bundle
from medseg_nca.inference.memory import footprint
from medseg_nca.inference.predictor import Predictor
from medseg_nca.inference.step_factor import scaled_steps, times_steps
from medseg_nca.io.peek import Extent
from medseg_nca.io.volume import Volume
from medseg_nca.models import RunOptions, create_model

LABELS = LabelTable(labels=(Label(name="a", values=(3,)),))


def model_of(folder: Path, *steps: object, name: str = "pyramid_nca") -> LoadedModel:
    """A small automaton in 2D, a level for each number of steps; or a network of that name."""
    torch.manual_seed(3)
    levels = [{"scale": 2 ** (len(steps) - k - 1), "steps": n} for k, n in enumerate(steps)]
    extra = (
        {"levels": levels, "head": "linear"}
        if steps
        else {"params": {"channels": [4, 8], "strides": [2]}}
    )
    model = create_model(name, dims=2, in_channels=1, out_channels=2, **extra)
    for cell in getattr(model, "cells", ()):
        torch.nn.init.normal_(cell.update.output.weight, std=0.5)
    plan = PreprocessPlan(dims=2, channels=("MR",), crop_size=(8, 8), orientation=None)
    spec = ModelSpec(name="test", model=model.settings, labels=LABELS, plan=plan)
    save_bundle(folder, model, spec)
    return load_bundle(folder, "cpu")


def image() -> Volume:
    return Volume(np.random.default_rng(0).normal(size=(1, 17, 14)).astype(np.float32), np.eye(4))


def labels_after(loaded: LoadedModel, **settings: object) -> np.ndarray:
    return Predictor(loaded, PredictionSettings(**settings)).predict(image()).label_map.array


def test_steps_are_rounded_and_at_least_one_is_taken() -> None:
    assert times_steps((13, 10, 8), 0.25) == (3, 3, 2)
    assert times_steps((13, 10, 8), 8) == (104, 80, 64)
    assert times_steps((13, 10, 8), (1, 0.01, 2)) == (13, 1, 16)


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=5), st.floats(0.01, 8), st.floats(1.0, 2.0)
)
def test_a_larger_factor_never_takes_fewer_steps(
    steps: list[int], factor: float, more: float
) -> None:
    pairs = zip(times_steps(steps, factor), times_steps(steps, factor * more), strict=True)
    assert all(few <= many for few, many in pairs)
    assert times_steps(steps, 1) == tuple(steps)


def test_twice_the_steps_are_those_of_a_model_with_twice_the_steps(tmp_path: Path) -> None:
    short, long = model_of(tmp_path / "a", 3, (3, 5)), model_of(tmp_path / "b", 6, 8)
    assert short.model.steps == (3, 4)
    doubled = labels_after(short, step_factor=2)
    assert np.array_equal(doubled, labels_after(long))
    assert not np.array_equal(doubled, labels_after(short))
    assert np.array_equal(labels_after(short, step_factor=1), labels_after(short))


def test_one_level_alone_takes_more_steps(tmp_path: Path) -> None:
    short, long = model_of(tmp_path / "a", 3, 4), model_of(tmp_path / "b", 3, 12)
    assert np.array_equal(labels_after(short, step_factor=(1, 3)), labels_after(long))


def test_the_memory_of_more_steps_is_that_of_such_a_model(tmp_path: Path) -> None:
    short, long = model_of(tmp_path / "a", 3, 4), model_of(tmp_path / "b", 24, 32)
    many = RunOptions(steps=(24, 32))
    shape = (900, 900)
    assert short.model.least_bytes(shape, many) == long.model.least_bytes(shape, RunOptions())
    extent = Extent.of(image())
    scaled = footprint(short, PredictionSettings(step_factor=8), extent)
    assert scaled == footprint(long, PredictionSettings(), extent)


def test_a_model_that_takes_its_trained_steps_does_not_speak_of_them() -> None:
    assert "step_factor" not in PredictionSettings().model_dump(mode="json")
    assert PredictionSettings(step_factor=2).model_dump(mode="json")["step_factor"] == 2
    tree = PredictionSettings(step_factor=(1, 2)).model_dump(mode="json")
    assert PredictionSettings.model_validate(tree).step_factor == (1, 2)


@pytest.mark.parametrize(
    ("factor", "words"),
    [((1, 2, 3), "names 3 levels; the model has 2"), (100, "at most 10000"), ((1, 90), "at most")],
)
def test_a_factor_that_does_not_fit_is_refused_at_once(
    factor: object, words: str, tmp_path: Path
) -> None:
    loaded = model_of(tmp_path, 3, 200)
    with pytest.raises(ConfigError, match=words):
        Predictor(loaded, PredictionSettings(step_factor=factor))


def test_a_network_takes_no_steps(tmp_path: Path) -> None:
    network = model_of(tmp_path, name="unet")
    assert network.model.steps == ()
    assert scaled_steps(network.model, 1) is None
    with pytest.raises(ConfigError, match="has no steps"):
        Predictor(network, PredictionSettings(step_factor=2))


def test_options_for_another_number_of_levels_are_refused(tmp_path: Path) -> None:
    model = model_of(tmp_path, 3, 4).model
    with pytest.raises(ConfigError, match="steps names 1 levels"):
        model(torch.zeros(1, 1, 8, 8), RunOptions(steps=(2,)))
