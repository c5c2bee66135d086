"""Focus: a fine level runs only around what the level before found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medseg_nca.config.model import FocusSettings
from medseg_nca.errors import ConfigError
from medseg_nca.models import create_model
from medseg_nca.models.base import RunOptions
from medseg_nca.models.focus import box_around, cells_in_focus, shell, split_rows
from medseg_nca.models.multilevel import MultiLevelNca


def logits_with(shape: tuple[int, ...], cells: list[tuple[int, ...]]) -> torch.Tensor:
    """Background everywhere but in some cells, which are of label 2."""
    logits = torch.zeros(1, 3, *shape)
    logits[:, 0] = 1.0
    for cell in cells:
        logits[(0, 2, *cell)] = 2.0
    return logits


def test_the_cells_by_hand() -> None:
    """A margin of 5 voxels is 2 cells of 4 voxels along one axis, 3 cells of 2 along the other."""
    logits = logits_with((10, 12), [(3, 6), (5, 6)])
    cells = cells_in_focus(logits, FocusSettings(margin=5), (4, 2))
    expected = torch.zeros(1, 10, 12, dtype=torch.bool)
    expected[:, 1:8, 3:10] = True
    assert torch.equal(cells, expected)
    assert box_around(cells, (0, 0), (1, 1)) == (slice(1, 8), slice(3, 10))
    assert box_around(cells, (2, 1), (1, 1)) == (slice(0, 10), slice(2, 11))
    assert box_around(cells, (0, 0), (8, 12)) == (slice(0, 8), slice(0, 12))
    assert box_around(cells, (0, 0), (99, 9)) == (slice(0, 10), slice(2, 11))
    assert cells_in_focus(logits, FocusSettings(margin=40), (4, 2)).all()


def test_without_a_background_channel_a_positive_logit_is_foreground() -> None:
    logits = torch.full((1, 1, 6, 6), -1.0)
    logits[0, 0, 2, 3] = 0.5
    cells = cells_in_focus(logits, FocusSettings(margin=1, background=False), (1, 1))
    assert box_around(cells, (0, 0), (1, 1)) == (slice(1, 4), slice(2, 5))


def test_a_sample_in_which_nothing_is_found_is_run_whole() -> None:
    logits = torch.cat((logits_with((4, 5), []), logits_with((4, 5), [(1, 1)])))
    cells = cells_in_focus(logits, FocusSettings(margin=0), (1, 1))
    assert cells[0].all()
    assert cells[1].sum() == 1
    assert box_around(cells, (0, 0), (1, 1)) == (slice(0, 4), slice(0, 5))


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


def give_focus(monkeypatch: pytest.MonkeyPatch, cells: torch.Tensor) -> None:
    """Let these cells be in focus, bool ``(B, *grid)``.

    Which cells are in focus follows from the logits, as the tests above show by hand. With random
    weights no image has logits that put chosen cells in focus, so they are put there.
    """
    monkeypatch.setattr("medseg_nca.models.inference.cells_in_focus", lambda *_: cells)


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
    cells = torch.zeros(1, 20, 18, dtype=torch.bool)
    cells[:, 2:12, 6:16] = True
    give_focus(monkeypatch, cells)
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


def test_cells_out_of_focus_keep_what_the_coarse_level_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cell that sleeps keeps its hidden channels, so its logits are those at hand-over."""
    cells = torch.zeros(1, 20, 18, dtype=torch.bool)
    cells[:, 4, 4] = cells[:, 12, 12] = True
    give_focus(monkeypatch, cells)
    image, options = image_with_a_square(), RunOptions(fire="mean")
    focused, plain = model_with({}), model_with(None)
    # The same head for both levels, so that equal states have equal logits.
    for model in (focused, plain):
        model.heads[1].load_state_dict(model.heads[0].state_dict())
    with torch.inference_mode():
        logits = focused(image, options)
        states: list[torch.Tensor] = []
        plain(image, RunOptions(fire="mean", record=lambda level, s: states.append(s)))
        steps = plain.settings.resolved_levels[0].steps
        assert isinstance(steps, int)
        coarse = plain.level_logits(0, states[steps - 1])
    expected = coarse.repeat_interleave(2, -1).repeat_interleave(2, -2)
    sleeping = ~cells.repeat_interleave(2, -1).repeat_interleave(2, -2)[0]
    torch.testing.assert_close(logits[..., sleeping], expected[..., sleeping])
    assert not torch.allclose(logits[..., ~sleeping], expected[..., ~sleeping])


@pytest.mark.parametrize("box", [((2, 4), (0, 6), (1, 5)), ((0, 5), (0, 6), (0, 7))])
def test_a_box_and_its_shell_cover_the_grid_once(box: tuple[tuple[int, int], ...]) -> None:
    grid = (5, 6, 7)
    seen = torch.zeros(grid, dtype=torch.int)
    inner = tuple(slice(*ends) for ends in box)
    for part in (inner, *shell(inner, grid)):
        for rows in split_rows(part, 9):
            assert seen[rows].numel() <= 9
            seen[rows] += 1
    assert (seen == 1).all()


def test_focus_needs_a_background_or_none_by_name() -> None:
    with pytest.raises(ConfigError, match=r"model\.focus\.background=false"):
        create_model("pyramid_nca", in_channels=1, out_channels=1, focus={"margin": 2},
                     levels=[{"scale": 1, "steps": 1}])  # fmt: skip


@pytest.mark.parametrize(
    "cell", [{"perception": {"padding": "circular"}}, {"update": {"norm": "batch"}}]
)
def test_focus_with_a_cell_that_needs_the_whole_grid_is_refused(cell: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="needs all of it"):
        create_model("pyramid_nca", in_channels=1, out_channels=2, cell=cell,
                     focus={"margin": 2}, levels=[{"scale": 1, "steps": 1}])  # fmt: skip


@pytest.mark.parametrize("dims", [2, 3])
def test_a_sample_does_not_depend_on_its_batch(dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The box is that of the batch; cells that sleep in it change nothing."""
    torch.manual_seed(0)
    model = create_model(
        "pyramid_nca", dims=dims, in_channels=1, out_channels=2, focus={"margin": 0},
        cell={"channels": 8, "update": {"hidden": 8}}, global_context=True,
        levels=[{"scale": 2, "steps": 3}, {"scale": 1, "steps": 3, "patch": 8}],
    )  # fmt: skip
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    cells = torch.zeros(2, *(10, 9, 8)[:dims], dtype=torch.bool)
    cells[(0, *(slice(2, 4),) * dims)] = cells[(1, *(slice(5, 8),) * dims)] = True
    images = torch.randn(2, 1, *(20, 18, 16)[:dims])
    options = RunOptions(fire="mean")

    def run(samples: slice) -> torch.Tensor:
        give_focus(monkeypatch, cells[samples])
        with torch.inference_mode():
            return model.eval()(images[samples], options)

    together = run(slice(0, 2))
    torch.testing.assert_close(together[:1], run(slice(0, 1)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together[1:], run(slice(1, 2)), rtol=1e-4, atol=1e-4)
