"""What a level sees of the voxels in one of its cells: their mean, or what other code takes."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch.nn import functional as F

from medseg_nca.config.model import LevelSettings, NcaModelSettings
from medseg_nca.errors import ConfigError
from medseg_nca.models import RunOptions, build_model
from medseg_nca.models.geometry import level_view, shrink
from medseg_nca.training.level_learner import LevelLearner

HOW = ["mean", "max", "middle", "first"]


def test_by_hand() -> None:
    row = torch.tensor([1.0, 2, 5, 10, 0, 8, 4, 4]).view(1, 1, 1, 8)
    four = {how: shrink(row, (1, 4), how).flatten().tolist() for how in HOW}
    assert four == {"mean": [4.5, 4], "max": [10, 8], "middle": [3.5, 6], "first": [1, 0]}
    three = shrink(row[..., :6], (1, 3), "middle").flatten().tolist()
    assert three == [2, 0]


def test_the_middle_is_linear_interpolation() -> None:
    image = torch.rand(2, 3, 12, 20)
    wanted = F.interpolate(image, size=(3, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(shrink(image, (4, 2), "middle"), wanted)


def test_the_first_is_nearest_interpolation() -> None:
    image = torch.rand(1, 2, 12, 8, 6)
    assert torch.equal(shrink(image, (4, 2, 3), "first"), F.interpolate(image, size=(3, 4, 2)))


@pytest.mark.parametrize("how", HOW)
def test_a_window_is_part_of_the_whole(how: str) -> None:
    image = torch.rand(1, 1, 11, 8)  # the last cell lies beyond the end
    whole = level_view(image, (4, 2), (slice(0, 3), slice(0, 4)), how)
    part = level_view(image, (4, 2), (slice(1, 3), slice(1, 3)), how)
    assert torch.equal(part, whole[..., 1:3, 1:3])


def settings(how: Any) -> NcaModelSettings:
    return NcaModelSettings(
        name="a", dims=2, in_channels=1, out_channels=1, shrink=how,
        levels=(LevelSettings(scale=4, steps=1), LevelSettings(steps=1)),
    )  # fmt: skip


@pytest.mark.parametrize("how", HOW)
def test_the_first_level_of_a_model_sees_it(how: str) -> None:
    states: dict[int, torch.Tensor] = {}
    image = torch.rand(1, 1, 8, 12)
    options = RunOptions(record=lambda level, state: states.update({level: state.clone()}))
    with torch.inference_mode():
        build_model(settings(how))(image, options)
    torch.testing.assert_close(states[0][:, :1], shrink(image, (4, 4), how))
    assert torch.equal(states[1][:, :1], image)


def test_files_of_models_that_take_the_mean_are_as_they_were() -> None:
    assert "shrink" not in json.loads(settings("mean").model_dump_json())
    tree = json.loads(settings("max").model_dump_json(exclude={"engine", "checkpoint"}))
    assert tree["shrink"] == "max"
    assert "engine" not in tree
    assert NcaModelSettings.model_validate(tree) == settings("max")


def test_a_training_takes_the_mean_only() -> None:
    learner = cast(LevelLearner, SimpleNamespace(model_settings=settings("first")))
    with pytest.raises(ConfigError, match="a training takes the mean"):
        LevelLearner.views(learner)
