"""Estimate the memory of an inference of a multi-level automaton."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import torch

from medseg_nca.config.model import LevelSettings
from medseg_nca.models.geometry import AVERAGED_VOXELS
from medseg_nca.models.tiling import LevelNeed, least, plan_tiles

if TYPE_CHECKING:
    from medseg_nca.models.base import RunOptions
    from medseg_nca.models.multilevel import MultiLevelNca

# The head computes the logits of this many cells at a time.
HEAD_CELLS = 1 << 17
_FLOAT = 4
# Bytes that the search for cells in focus needs for each cell of the level before.
_SEARCH = 16


def inference_steps(level: LevelSettings) -> int:
    """Return the number of steps at inference: the given one, or the rounded mean of (min, max)."""
    if isinstance(level.steps, int):
        return level.steps
    return round(sum(level.steps) / 2)


def level_need(
    model: MultiLevelNca, level: int, size: Sequence[int], batch: int, kind: torch.dtype, steps: int
) -> LevelNeed:
    """Return what a level needs to take ``steps`` steps on a grid of ``size`` cells.

    For each tile this is the engine's own memory, the state that the tile begins with, its part of
    the image (cut out, and averaged), and two masks.
    """
    cell = model.cell(level)
    stored = batch * cell.channels * kind.itemsize
    with torch.no_grad():  # an engine may serve bfloat16 only without gradients
        engine = model.engine.bytes_per_cell(cell, torch.empty(0, dtype=kind))
    image = 2 * _FLOAT * model.in_channels
    working = batch * (engine + image + 2) + stored
    return LevelNeed.of(cell, size, steps, working, stored)


def held_bytes(
    model: MultiLevelNca, level: int, coarse: int, cells: int, batch: int, element: int
) -> float:
    """Return the bytes in use while a level runs, without the image and the tiles being computed.

    Args:
        model: the automaton.
        level: index of the level, from 0.
        coarse: number of cells of the level before.
        cells: number of cells of this level.
        batch: number of samples.
        element: bytes of one number of the state.
    """
    state, logits = model.settings.cell.channels * element, model.out_channels * _FLOAT
    focused = [n for n in range(len(model.scales)) if model.is_focused(n)]
    before = coarse * (state + (logits + 1 if focused and level >= focused[0] else 0))
    after = 0
    if level < len(model.scales) - 1:
        after = cells * (state + (logits + 1 if focused and level + 1 >= focused[0] else 0))
    return batch * (before + after) + _slabs(model, batch)


def _slabs(model: MultiLevelNca, batch: int) -> float:
    """Return the bytes of the slab of the image that is averaged, and of the head's work."""
    head = 2 * model.settings.cell.update.hidden if model.settings.head == "mlp" else 0
    values = model.settings.cell.channels + head + 6 * model.out_channels
    return batch * _FLOAT * (2 * AVERAGED_VOXELS * model.in_channels + HEAD_CELLS * values)


def least_bytes(model: MultiLevelNca, shape: Sequence[int], options: RunOptions) -> float:
    """Return the least memory in bytes for an image ``(1, in_channels, *shape)``, without it."""
    kind = torch.bfloat16 if options.precision == "bfloat16" else torch.float32
    grids, most, coarse = model.grids(shape), 0.0, 0
    for level, (grid, steps) in enumerate(zip(grids, model.steps_of(options), strict=True)):
        cells = prod(grid)
        need = least(level_need(model, level, grid, 1, kind, steps)).bytes
        held = held_bytes(model, level, coarse, cells, 1, kind.itemsize)
        most = max(most, held + max(need, _SEARCH * coarse))
        coarse = cells
    return most


def whole_bytes(model: MultiLevelNca, shape: Sequence[int]) -> float:
    """Return the memory in bytes of an inference whose levels are all computed as a whole."""
    most, coarse = 0.0, 0
    for level, (grid, steps) in enumerate(zip(model.grids(shape), model.steps, strict=True)):
        cells = prod(grid)
        need = plan_tiles(level_need(model, level, grid, 1, torch.float32, steps), None)
        most = max(most, held_bytes(model, level, coarse, cells, 1, _FLOAT) + need.bytes)
        coarse = cells
    return most
