"""Focus: a fine level runs only around what the level before found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medseg_nca.config.model import FocusSettings
from medseg_nca.models import create_model
from medseg_nca.models.base import RunOptions
from medseg_nca.models.focus import focus_box
from medseg_nca.models.multilevel import MultiLevelNca


def logits_with(shape: tuple[int, ...], cells: list[tuple[int, ...]]) -> torch.Tensor:
    """Background everywhere but in some cells, which are of label 2."""
    logits = torch.zeros(1, 3, *shape)
    logits[:, 0] = 1.0
    for cell in cells:
        logits[(0, 2, *cell)] = 2.0
    return logits


def test_the_box_by_hand() -> None:
    """Rows 3 to 5 and columns 6 to 6, a margin of 5 voxels at 4 and 2 a cell: 2 and 3 cells."""
    logits = logits_with((10, 12), [(3, 6), (5, 6)])
    box = focus_box(logits, FocusSettings(margin=5), (4, 2))
    assert box == (slice(1, 8), slice(3, 10))
    wide = focus_box(logits, FocusSettings(margin=40), (4, 2))
    assert wide == (slice(0, 10), slice(0, 12))


def test_the_box_without_a_background_channel() -> None:
    logits = torch.full((1, 1, 6, 6), -1.0)
    logits[0, 0, 2, 3] = 0.5
    box = focus_box(logits, FocusSettings(margin=1, background=False), (1, 1))
    assert box == (slice(1, 4), slice(2, 5))


def test_nothing_found_is_the_whole_grid() -> None:
    box = focus_box(logits_with((4, 5), []), FocusSettings(margin=1), (1, 1))
    assert box == (slice(0, 4), slice(0, 5))


def model_with(focus: dict[str, Any] | None) -> MultiLevelNca:
    """Two levels; whatever they do, the coarse logits say label 1 where the image is bright."""
    torch.manual_seed(0)
    model = create_model(
        "pyramid_nca", dims=2, in_channels=1, out_channels=2, focus=focus, global_context=False,
        cell={"channels": 8, "update": {"hidden": 8}},
        levels=[{"scale": 2, "steps": 4}, {"scale": 1, "steps": 3, "patch": 8}],
    )  # fmt: skip
    assert isinstance(model, MultiLevelNca)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def image_with_a_square() -> torch.Tensor:
    image = torch.zeros(1, 1, 40, 36)
    image[..., 10:16, 20:26] = 3.0
    return image


@pytest.mark.parametrize("fire", ["sample", "mean"])
def test_a_margin_over_everything_changes_nothing(fire: Any) -> None:
    image, options = image_with_a_square(), RunOptions(fire=fire)
    with torch.inference_mode():
        plain = model_with(None)(image, options)
        focused = model_with({"margin": 100})(image, options)
    torch.testing.assert_close(focused, plain)


def test_inside_the_focus_the_result_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps reach three cells, so what lies deeper in the box cannot tell the difference."""
    box = (slice(2, 12), slice(6, 16))  # coarse cells
    monkeypatch.setattr("medseg_nca.models.multilevel.focus_box", lambda *_: box)
    image, options = image_with_a_square(), RunOptions(seed=5)
    with torch.inference_mode():
        plain = model_with(None)(image, options)
        focused = model_with({})(image, options)
    core = (..., slice(4 + 3, 24 - 3), slice(12 + 3, 32 - 3))
    torch.testing.assert_close(focused[core], plain[core])
    assert focused.shape == plain.shape
    assert not torch.allclose(focused, plain)


def test_a_level_without_patches_stays_whole() -> None:
    image = image_with_a_square()
    results = []
    for focus in (None, {"margin": 0}):
        torch.manual_seed(0)
        model = create_model(
            "pyramid_nca", dims=2, in_channels=1, out_channels=2, focus=focus,
            levels=[{"scale": 2, "steps": 4}, {"scale": 1, "steps": 3}],
        )  # fmt: skip
        with torch.inference_mode():
            results.append(model(image))
    assert torch.equal(*results)


def test_who_records_sees_whole_states() -> None:
    shapes = []
    options = RunOptions(record=lambda _, state: shapes.append(tuple(state.shape[2:])))
    with torch.inference_mode():
        model_with({"margin": 0})(image_with_a_square(), options)
    assert shapes == [(20, 18)] * 4 + [(40, 36)] * 3
