"""Changes of intensity act on every view of a sample as on the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medseg_nca.config.data import AugmentSettings
from medseg_nca.transforms.intensity_changes import Place, apply, draw_changes

NAMES = ("noise", "blur", "brightness", "contrast", "bias_field", "low_resolution", "gamma")
OFF = {f"{name}_p": 0.0 for name in NAMES}


def changed(
    image: Tensor, place: Place, seed: int = 1, reference: Tensor | None = None, **settings: Any
) -> Tensor:
    rng = np.random.default_rng(seed)
    seen = image.flatten(1) if reference is None else reference
    changes = draw_changes(AugmentSettings.model_validate({**OFF, **settings}), seen, rng)
    return apply(changes, image, place)


def whole(image: Tensor) -> Place:
    dims = image.ndim - 1
    return Place((1,) * dims, (0,) * dims, tuple(image.shape[1:]))


@pytest.mark.parametrize("shape", [(2, 16, 20), (2, 16, 12, 10)])
@pytest.mark.parametrize("name", [*NAMES, "all"])
def test_the_shape_stays_and_the_seed_decides(name: str, shape: tuple[int, ...]) -> None:
    image = torch.rand(shape)
    chosen = {f"{n}_p": 1.0 for n in NAMES if name in (n, "all")}
    first, again, other = (changed(image, whole(image), seed, **chosen) for seed in (1, 1, 2))
    assert first.shape == image.shape
    assert first.dtype == torch.float32
    assert torch.isfinite(first).all()
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, image)


def test_no_chance_changes_nothing() -> None:
    image = torch.rand(1, 8, 8)
    assert torch.equal(changed(image, whole(image)), image)
    on = dict.fromkeys((f"{name}_p" for name in NAMES), 1.0)
    assert torch.equal(changed(image, whole(image), enabled=False, **on), image)


@pytest.mark.parametrize("name", ["brightness", "contrast", "bias_field", "gamma"])
def test_a_part_is_changed_as_in_the_whole(name: str) -> None:
    image = torch.rand(2, 16, 20)
    chosen = {f"{name}_p": 1.0}
    all_of_it = changed(image, whole(image), **chosen)
    part = changed(
        image[:, 4:10, 5:9], Place((1, 1), (4, 5), (16, 20)), reference=image.flatten(1), **chosen
    )
    torch.testing.assert_close(part, all_of_it[:, 4:10, 5:9])


def test_brightness_is_a_factor() -> None:
    image = torch.rand(1, 4, 4)
    brighter = changed(image, whole(image), brightness_p=1.0, brightness=(1.5, 1.5))
    torch.testing.assert_close(brighter, image * 1.5)


def test_contrast_keeps_mean_and_range() -> None:
    image = torch.tensor([[[0.0, 1.0, 2.0, 5.0]]])
    less = changed(image, whole(image), contrast_p=1.0, contrast=(0.5, 0.5))
    assert less.flatten().tolist() == [1.0, 1.5, 2.0, 3.5]
    more = changed(image, whole(image), contrast_p=1.0, contrast=(2.0, 2.0))
    assert more.flatten().tolist() == [0.0, 0.0, 2.0, 5.0]


def test_gamma_keeps_mean_and_deviation() -> None:
    image = torch.rand(1, 32, 32)
    bent = changed(image, whole(image), gamma_p=1.0, gamma=(2.0, 2.0))
    assert float(bent.mean()) == pytest.approx(float(image.mean()), abs=1e-4)
    assert float(bent.std()) == pytest.approx(float(image.std()), abs=1e-4)
    order = image.flatten().argsort()
    assert (bent.flatten()[order].diff() >= 0).all()


def test_noise_of_a_coarse_cell_is_the_mean_of_its_voxels_noise() -> None:
    image = torch.zeros(1, 64, 64)
    fine = changed(image, whole(image), noise_p=1.0)
    coarse = changed(image, Place((4, 4), (0, 0), (256, 256)), noise_p=1.0)
    assert float(fine.std() / coarse.std()) == pytest.approx(4.0, rel=0.1)


def test_a_blur_leaves_the_border_of_a_view_alone() -> None:
    image = torch.full((1, 12, 12, 6), -1.0)
    blurred = changed(image, whole(image), blur_p=1.0)
    torch.testing.assert_close(blurred, image, rtol=0, atol=1e-3)


def test_a_blur_leaves_cells_alone_that_are_wider() -> None:
    image = torch.rand(1, 16, 16)
    assert torch.equal(changed(image, Place((8, 8), (0, 0), (128, 128)), blur_p=1.0), image)
    assert float(changed(image, whole(image), blur_p=1.0).std()) < float(image.std())
