"""Random changes keep shapes and label numbers, and repeat with their seed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medseg_nca.config.data import AugmentSettings
from medseg_nca.errors import ConfigError
from medseg_nca.transforms.augment import augmentation

CHANCES = [name for name in AugmentSettings.model_fields if name.endswith("_p")]
OFF = dict.fromkeys(CHANCES, 0.0)
ON = dict.fromkeys(CHANCES, 1.0)


def sample(dims: int, size: int = 16) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    shape = (size, size + 4, size - 2)[:dims]
    image = torch.rand((2, *shape), generator=generator)
    label = torch.zeros((1, *shape), dtype=torch.uint8)
    label[(0, *(slice(4, 10),) * dims)] = 1
    label[(0, *(slice(10, 12),) * dims)] = 3
    return {"image": image, "label": label}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", [*CHANCES, "rotate90", "all"])
def test_shape_type_and_label_numbers_stay(dims: int, name: str) -> None:
    axes = tuple(range(dims))
    chosen = ON if name == "all" else {name: 1.0}
    settings = AugmentSettings(**{**OFF, "flip_axes": axes, "rotate90": name == "all", **chosen})
    data = sample(dims)
    out = augmentation(settings, dims).set_random_state(seed=1)(sample(dims))
    for key, kind in (("image", torch.float32), ("label", torch.uint8)):
        assert type(out[key]) is torch.Tensor
        assert out[key].shape == data[key].shape
        assert out[key].dtype == kind
    assert torch.isfinite(out["image"]).all()
    assert set(out["label"].unique().tolist()) <= {0, 1, 3}


@pytest.mark.parametrize("dims", [2, 3])
def test_the_same_seed_gives_the_same_sample(dims: int) -> None:
    change = augmentation(AugmentSettings(**ON, flip_axes=(0,), rotate90=True), dims)
    first, second, third = (
        change.set_random_state(seed=seed)(sample(dims))["image"] for seed in (5, 5, 6)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_no_chance_changes_nothing() -> None:
    data, out = sample(3), augmentation(AugmentSettings(**OFF), 3)(sample(3))
    assert torch.equal(out["image"], data["image"])
    assert torch.equal(out["label"], data["label"])


def test_flips_move_image_and_label_together() -> None:
    settings = AugmentSettings(**{**OFF, "flip_p": 1.0}, flip_axes=(1,))
    data, out = sample(3), augmentation(settings, 3)(sample(3))
    assert torch.equal(out["image"], data["image"].flip(2))
    assert torch.equal(out["label"], data["label"].flip(2))


def test_scale_is_the_factor_of_the_object() -> None:
    settings = AugmentSettings(**{**OFF, "affine_p": 1.0}, rotate=0, scale=(1.5, 1.5))
    data = {"image": torch.rand(1, 32, 32), "label": torch.zeros(1, 32, 32, dtype=torch.uint8)}
    data["label"][0, 12:20, 12:20] = 1
    out = augmentation(settings, 2).set_random_state(seed=0)(data)
    assert int(out["label"].sum()) == pytest.approx(144, rel=0.1)


def test_intensity_changes_leave_the_label_alone() -> None:
    settings = AugmentSettings(**{**ON, "affine_p": 0.0, "elastic_p": 0.0, "flip_p": 0.0})
    data, out = sample(3), augmentation(settings, 3).set_random_state(seed=0)(sample(3))
    assert torch.equal(out["label"], data["label"])
    assert not torch.equal(out["image"], data["image"])


def test_a_flip_axis_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"flip_axes: there is no axis 2 in 2D"):
        augmentation(AugmentSettings(flip_axes=(0, 2)), 2)
