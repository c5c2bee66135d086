"""Roll-outs: many steps of the automaton, with bounded memory.

In training, checkpoints bound the memory: some states are kept, and the others are computed again
in the backward pass. At inference, tiles bound it: parts of the grid are computed one after the
other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recompute

from medseg_nca.nca.cell import Cell
from medseg_nca.nca.engines.base import Engine, Record
from medseg_nca.nca.fire import Fire
from medseg_nca.nca.stepwise import around
from medseg_nca.nca.tiles import roll_in_place


def roll_out(
    engine: Engine,
    cell: Cell,
    state: Tensor,
    steps: int,
    fire: Fire,
    *,
    checkpoint: int | None = None,
    tile: Sequence[int] | None = None,
    record: Record | None = None,
) -> Tensor:
    """Update the automaton ``steps`` times.

    Args:
        engine: the engine that computes the steps.
        cell: perception and update rule. Its options act around each step, as
            :mod:`medseg_nca.nca.stepwise` describes.
        state: the state to begin with, ``(B, C, *spatial)``; it is not changed.
        steps: number of steps; with the option ``stop`` there may be fewer at inference.
        fire: the rule that decides which cells update in each step.
        checkpoint: number of steps from one kept state to the next while gradients are recorded;
            None keeps what the engine keeps.
        tile: size of a tile in cells per axis, at inference. The result is that of the whole grid,
            up to rounding. A cell that is not :attr:`Cell.local` is computed without tiles. None
            computes the whole grid at once.
        record: called with the state after every step, unless checkpoints or tiles are used.

    Returns:
        The state after the last step, ``(B, C, *spatial)``.
    """
    engine = around(engine, cell.settings)
    training = torch.is_grad_enabled()
    if training and checkpoint:
        for first in range(0, steps, checkpoint):
            count = min(checkpoint, steps - first)
            later = fire.advance(first)
            state = recompute(engine.roll_out, cell, state, count, later, use_reentrant=False)
        return state
    covers = tile is None or all(t >= n for t, n in zip(tile, state.shape[2:], strict=True))
    if training or covers or not cell.local or tile is None:
        return engine.roll_out(cell, state, steps, fire, record)
    state = state.clone()
    roll_in_place(engine, cell, state, steps, fire, tile)
    return state
