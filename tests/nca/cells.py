"""Cells that change their state, for the tests of the engines."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from medseg_nca.config.model import CellSettings, PerceptionSettings, UpdateSettings
from medseg_nca.nca import Cell, Fire
from medseg_nca.nca.engines import Engine

LEARNED = ("depthwise", "conv")
# Tests of the GPU engine that interpret or compile for many minutes where no GPU is.
every_kernel = pytest.mark.skipif(
    os.environ.get("MEDSEG_EVERY_KERNEL") != "1",
    reason="takes many minutes: set MEDSEG_EVERY_KERNEL=1",
)


def make_cell(
    dims: int, kind: str = "depthwise", *, channels: int = 5, hidden: int = 9, kernel: int = 3,
    filters: int = 1, padding: str = "zero", dilation: int = 1, norm: str = "none",
    activation: str = "relu", dtype: torch.dtype = torch.float64,
) -> Cell:  # fmt: skip
    """A cell that changes its state, with every parameter different from zero."""
    shape: dict[str, Any] = {"kernel": kernel, "filters": filters} if kind in LEARNED else {}
    perception = PerceptionSettings(kind=kind, padding=padding, dilation=dilation, **shape)
    update = UpdateSettings(hidden=hidden, norm=norm, activation=activation)
    torch.manual_seed(1)
    cell = Cell(CellSettings(channels=channels, perception=perception, update=update), 1, dims)
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return cell.to(dtype)


def outcome(engine: Engine, cell: Cell, state: Tensor, steps: int, fire: Fire) -> list[Tensor]:
    """The state after some steps, and the gradient of everything."""
    leaf = state.clone().requires_grad_()
    cell.zero_grad()
    after = engine.roll_out(cell, leaf, steps, fire)
    weight = torch.linspace(-1, 1, after.numel(), dtype=after.dtype).view_as(after)
    (after * weight).sum().backward()
    return [after.detach(), leaf.grad, *[p.grad for p in cell.parameters()]]  # type: ignore[list-item]


def assert_agree(
    reference: Engine, engine: Engine, cell: Cell, state: Tensor, steps: int, fire: Fire,
    rtol: float,
) -> None:  # fmt: skip
    """Values and gradients are those of the reference, up to a share of the largest."""
    pairs = list(
        zip(
            outcome(reference, cell, state, steps, fire),
            outcome(engine, cell, state, steps, fire),
            strict=True,
        )
    )
    # A batch norm takes the gradient of what is added before it away: rounding is all that is left.
    least = max(float(expected.abs().max()) for expected, _ in pairs)
    least = least if cell.settings.update.norm == "batch" else 0.0
    for expected, actual in pairs:
        scale = max(float(expected.abs().max()), least, 1e-30)
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=rtol * scale)
