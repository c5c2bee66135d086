"""Predictions: tiles, flips, spread, budgets and grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medseg_nca.config import PreprocessPlan
from medseg_nca.config.model import NcaModelSettings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ConfigError, ImageError, Interrupted, MemoryBudgetError
from medseg_nca.inference.task_model import TaskModel, TaskSpec
from medseg_nca.io.peek import Extent
from medseg_nca.io.read import read_volume
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_volume
from medseg_nca.job import Job
from medseg_nca.models import build_model
from medseg_nca.tasks.regression.options import RegressionFacts, TargetFacts
from medseg_nca.tasks.regression.predictor import RealPredictor


def predictor(
    settings: PredictionSettings | None = None, transform: Any = "none", **plan: object
) -> RealPredictor:
    """Two levels with weights that are not zero."""
    torch.manual_seed(0)
    model = NcaModelSettings.model_validate({
        "name": "backbone_nca", "dims": 2, "in_channels": 1, "out_channels": 2,
        "cell": {"channels": 8, "update": {"hidden": 8, "norm": "rms"}},
        "levels": [{"scale": 4, "steps": 4}, {"scale": 1, "steps": 3}],
    })  # fmt: skip
    module = build_model(model)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    targets = tuple(
        TargetFacts(name=n, mean=m, sd=2, average=m, spread=2, low=0.1, high=9)
        for n, m in (("a", 1), ("b", 0))
    )
    own = {"dims": 2, "channels": ("image",), "crop_size": (16, 16), "spacing": (1.0, 1.0), **plan}
    facts = RegressionFacts(
        plan=PreprocessPlan.model_validate(own),
        targets=targets,
        transform=transform,
    )
    spec = TaskSpec(name="tiny", task="regression", model=model, facts=facts.model_dump())
    loaded = TaskModel(module.eval(), spec, Path(), torch.device("cpu"))
    return RealPredictor(loaded, facts, settings)


def image(*shape: int, affine: np.ndarray | None = None) -> Volume:
    array = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    return Volume(array, np.eye(4) if affine is None else affine)


def least_budget(extent: Extent) -> float:
    """The smallest budget in GB, but for a ten-thousandth, that lets an image pass."""
    refused, enough = 0.0, 8.0
    while enough > refused * 1.0001:
        middle = (refused + enough) / 2
        try:
            predictor(PredictionSettings(memory_budget_gb=middle)).check_memory(extent, "x")
            enough = middle
        except MemoryBudgetError:
            refused = middle
    return enough


def test_in_tiles_it_is_the_same() -> None:
    volume = image(256, 192)
    whole = predictor().predict(volume).values.array
    tight = predictor(PredictionSettings(memory_budget_gb=least_budget(Extent.of(volume))))
    np.testing.assert_allclose(tight.predict(volume).values.array, whole, atol=1e-5)


def test_an_image_beyond_the_budget_is_refused_before_it_is_read() -> None:
    small = predictor(PredictionSettings(memory_budget_gb=0.2))
    extent = Extent(1, (40_000, 40_000), 4, np.eye(4))
    with pytest.raises(MemoryBudgetError, match=r"scan: an image of 40000 x 40000.*0\.2 GB"):
        small.check_memory(extent, "scan")
    with pytest.raises(MemoryBudgetError):
        predictor(PredictionSettings(memory_budget_gb=0.12)).predict(image(64, 64))


def test_flips_are_averaged() -> None:
    volume = image(24, 20)
    both = predictor(PredictionSettings(flips=(1,), fire="mean")).predict(volume).values.array
    plain = predictor(PredictionSettings(fire="mean"))
    mirrored = volume.with_array(np.ascontiguousarray(volume.array[:, :, ::-1]))
    first = plain.predict(volume).values.array
    second = plain.predict(mirrored).values.array[:, :, ::-1]
    np.testing.assert_allclose(both, (first + second) / 2, atol=1e-4)
    assert not np.allclose(first, second, atol=1e-3)


def test_uncertainty_is_the_spread_of_the_passes() -> None:
    volume = image(20, 20)
    found = predictor(PredictionSettings(uncertainty=3, seed=7)).predict(volume)
    each = [
        predictor(PredictionSettings(fire="sample", seed=7 + n)).predict(volume).values.array
        for n in range(3)
    ]
    np.testing.assert_allclose(found.values.array, np.mean(each, axis=0), atol=1e-4)
    assert found.uncertainty is not None
    np.testing.assert_allclose(found.uncertainty.array, np.std(each, axis=0, ddof=1), atol=1e-4)
    assert found.uncertainty.array.max() > 0


def test_values_lie_on_the_grid_of_the_image() -> None:
    affine = np.array([[0, 2, 0, 5], [-1.0, 0, 0, 7], [0, 0, 1, 0], [0, 0, 0, 1]])
    volume = image(20, 33, affine=affine)
    found = predictor().predict(volume).values
    assert found.array.shape == (2, 20, 33)
    assert found.array.dtype == np.float32
    assert np.array_equal(found.affine, affine)


def test_axes_that_are_turned_give_the_same_values_turned() -> None:
    volume = image(20, 32)
    flipped = volume.with_array(np.ascontiguousarray(volume.array[:, ::-1]))
    there = np.diag([-1.0, 1, 1, 1])
    there[0, 3] = 19
    run = predictor(PredictionSettings(fire="mean"))
    first = run.predict(volume).values.array
    second = run.predict(Volume(flipped.array, there)).values.array
    assert np.array_equal(first, second[:, ::-1])


def test_an_image_smaller_than_a_sample_is_padded_and_cut() -> None:
    assert predictor().predict(image(5, 7)).values.array.shape == (2, 5, 7)


def test_logarithms_give_positive_values_within_bounds() -> None:
    found = predictor(transform="log").predict(image(20, 20)).values.array
    assert found.min() >= 0.01 - 1e-6
    assert found.max() <= 90.01


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ImageError, match="has 3 axes"):
        predictor().predict(image(4, 4, 4))
    two = Volume(np.random.default_rng(0).random((2, 8, 8)), np.eye(4))
    with pytest.raises(ImageError, match="channels: 2; needed: 1"):
        predictor().predict(two)
    with pytest.raises(ConfigError, match=r"prediction\.largest is for label maps"):
        predictor(PredictionSettings(largest=("a",)))
    with pytest.raises(ConfigError, match="2 is no axis"):
        predictor(PredictionSettings(flips=(2,)))


def test_an_image_of_other_intensities_is_told_or_refused() -> None:
    channel = {
        "low": (0, 1), "median": (50, 60), "high": (90, 100), "place": (0.4, 0.6),
        "border": (0.4, 0.6), "floor": (0, 0.1), "rough": (0, 0.1), "grades": 90, "whole": True,
    }  # fmt: skip
    one = (1.0, 1.0)
    known = {
        "spacing": one, "finest": one, "coarsest": one, "smallest": (9, 9), "largest": (99, 99),
        "intensities": [channel], "orientations": ["RA"],
    }  # fmt: skip
    (text,) = predictor(training=known).predict(image(20, 20)).likeness.unlike
    assert "is there anything but noise in the image?" in text
    refusing = predictor(PredictionSettings(unlike="refuse"), training=known)
    with pytest.raises(ImageError, match="anything but noise"):
        refusing.predict(image(20, 20))


def test_cancelled_it_stops() -> None:
    job = Job()
    job.cancel()
    with pytest.raises(Interrupted):
        predictor().predict(image(20, 20), job)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".tiff"])
def test_several_targets_go_to_a_file_and_come_back(tmp_path: Path, suffix: str) -> None:
    found = predictor().predict(image(20, 24)).values
    write_volume(found, tmp_path / f"a{suffix}")
    read = read_volume(tmp_path / f"a{suffix}")
    # NIfTI has a third axis before the channels.
    assert np.array_equal(read.array.reshape(found.array.shape), found.array)
