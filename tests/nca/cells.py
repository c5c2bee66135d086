"""Cells that change their state, for the tests of the engines."""

from __future__ import annotations

from typing import Any

import torch

from medseg_nca.config.model import CellSettings, PerceptionSettings, UpdateSettings
from medseg_nca.nca import Cell

LEARNED = ("depthwise", "conv")


def make_cell(
    dims: int, kind: str = "depthwise", *, channels: int = 5, hidden: int = 9, kernel: int = 3,
    filters: int = 1, padding: str = "zero", norm: str = "none", activation: str = "relu",
    dtype: torch.dtype = torch.float64,
) -> Cell:  # fmt: skip
    """A cell that changes its state, with every parameter different from zero."""
    shape: dict[str, Any] = {"kernel": kernel, "filters": filters} if kind in LEARNED else {}
    perception = PerceptionSettings(kind=kind, padding=padding, **shape)
    update = UpdateSettings(hidden=hidden, norm=norm, activation=activation)
    torch.manual_seed(1)
    cell = Cell(CellSettings(channels=channels, perception=perception, update=update), 1, dims)
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return cell.to(dtype)
