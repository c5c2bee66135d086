"""The textbook step is the reference engine's where all cells update."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from medseg_nca.benchmark import textbook
from medseg_nca.config.model import CellSettings, PerceptionSettings, UpdateSettings
from medseg_nca.nca import Cell, Fire
from medseg_nca.nca.engines import Engine, get_engine

REFERENCE = get_engine("reference")


def make_cell(dims: int, padding: str = "zero", update: dict[str, Any] | None = None,
              **perception: Any) -> Cell:  # fmt: skip
    torch.manual_seed(1)
    settings = CellSettings(
        channels=5,
        perception=PerceptionSettings(padding=padding, **perception),
        update=UpdateSettings(hidden=7, **(update or {})),
    )
    cell = Cell(settings, 2, dims)
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return cell


def outcome(engine: Engine, cell: Cell, state: Tensor, fire: Fire) -> list[Tensor]:
    """The state after three steps, and the gradient of everything."""
    leaf = state.clone().requires_grad_()
    cell.zero_grad()
    after = engine.roll_out(cell, leaf, 3, fire)
    after.square().sum().backward()
    return [after.detach(), leaf.grad, *[p.grad for p in cell.parameters()]]  # type: ignore[list-item]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("mode", ["sample", "mean"])
@pytest.mark.parametrize(
    "cell",
    [
        {},
        {"kernel": 5, "padding": "reflect"},
        {"filters": 2},
        {"filters": 3, "padding": "circular"},
        {"kind": "conv"},
        {"kind": "conv", "filters": 2, "bias": False},
        {"kind": "sobel_laplace"},
        {"update": {"norm": "rms", "activation": "silu", "update_image": True}},
        {"update": {"norm": "batch", "activation": "gelu"}},
    ],
    ids=str,
)
def test_it_is_the_reference(dims: int, mode: Any, cell: dict[str, Any]) -> None:
    made = make_cell(dims, **cell)
    state = torch.randn(2, 5, *(7, 6, 5)[:dims])
    fire = Fire.for_batch(0.6 if mode == "mean" else 1.0, 0, 2, mode)
    pairs = zip(
        outcome(textbook.ENGINE, made, state, fire),
        outcome(REFERENCE, made, state, fire),
        strict=True,
    )
    for actual, expected in pairs:
        scale = expected.abs().max().item()
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * max(scale, 1.0))


def test_about_the_right_share_of_cells_fires_and_the_image_stays() -> None:
    cell, state = make_cell(2), torch.randn(1, 5, 64, 64)
    with torch.inference_mode():
        after = textbook.ENGINE.roll_out(cell, state, 1, Fire.for_batch(0.3, 0, 1))
    assert (after != state).any(1).float().mean().item() == pytest.approx(0.3, abs=0.04)
    assert torch.equal(after[:, :2], state[:, :2])


def test_every_state_is_recorded() -> None:
    seen: list[Tensor] = []
    state = torch.randn(1, 5, 4, 6)
    after = textbook.ENGINE.roll_out(make_cell(2), state, 3, Fire.for_batch(1.0, 0, 1), seen.append)
    assert len(seen) == 3
    assert torch.equal(seen[-1], after)
