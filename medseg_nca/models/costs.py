"""What an inference of a multi-level automaton holds in memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import torch

from medseg_nca.config.model import LevelSettings
from medseg_nca.models.geometry import AVERAGED_VOXELS
from medseg_nca.models.tiling import LevelNeed, least

if TYPE_CHECKING:
    from medseg_nca.models.base import RunOptions
    from medseg_nca.models.multilevel import MultiLevelNca

# Logits are made of so many cells at a time.
HEAD_CELLS = 1 << 17
_FLOAT = 4
# What the search for cells in focus needs for each cell of the level before.
_SEARCH = 16


def inference_steps(level: LevelSettings) -> int:
    """Steps at inference: the given number, or the rounded mean of (min, max)."""
    if isinstance(level.steps, int):
        return level.steps
    return round(sum(level.steps) / 2)


def level_need(
    model: MultiLevelNca, level: int, size: Sequence[int], batch: int, kind: torch.dtype
) -> LevelNeed:
    """What a level needs to go through a grid of ``size`` cells.

    Besides the engine's own memory: the state that a part begins with, its image (cut out, and
    averaged), and two masks.
    """
    cell = model.cell(level)
    stored = batch * cell.channels * kind.itemsize
    with torch.no_grad():  # which engine serves bfloat16 depends on it
        engine = model.engine.bytes_per_cell(cell, torch.empty(0, dtype=kind))
    image = 2 * _FLOAT * model.in_channels
    working = batch * (engine + image + 2) + stored
    steps = inference_steps(model.settings.resolved_levels[level])
    return LevelNeed.of(cell, size, steps, working, stored)


def held_bytes(
    model: MultiLevelNca, level: int, coarse: int, cells: int, batch: int, element: int
) -> float:
    """What exists while a level runs, besides the image and the parts that are computed.

    Args:
        model: the levels.
        level: which.
        coarse: cells of the level before.
        cells: of this level.
        batch: samples.
        element: bytes of a number of the state.
    """
    state, logits = model.settings.cell.channels * element, model.out_channels * _FLOAT
    focused = [n for n in range(len(model.scales)) if model.is_focused(n)]
    before = coarse * (state + (logits + 1 if focused and level >= focused[0] else 0))
    after = 0
    if level < len(model.scales) - 1:
        after = cells * (state + (logits + 1 if focused and level + 1 >= focused[0] else 0))
    return batch * (before + after) + _slabs(model, batch)


def _slabs(model: MultiLevelNca, batch: int) -> float:
    """Slabs of the image that are averaged; of what the head computes, and what becomes of it."""
    head = 2 * model.settings.cell.update.hidden if model.settings.head == "mlp" else 0
    values = model.settings.cell.channels + head + 6 * model.out_channels
    return batch * _FLOAT * (2 * AVERAGED_VOXELS * model.in_channels + HEAD_CELLS * values)


def least_bytes(model: MultiLevelNca, shape: Sequence[int], options: RunOptions) -> float:
    """The least memory in which an image ``(1, in_channels, *shape)`` can be run, besides it."""
    kind = torch.bfloat16 if options.precision == "bfloat16" else torch.float32
    grids, most, coarse = model.grids(shape), 0.0, 0
    for level, grid in enumerate(grids):
        cells = prod(grid)
        need = least(level_need(model, level, grid, 1, kind)).bytes
        held = held_bytes(model, level, coarse, cells, 1, kind.itemsize)
        most = max(most, held + max(need, _SEARCH * coarse))
        coarse = cells
    return most
