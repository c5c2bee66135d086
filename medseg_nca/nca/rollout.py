"""Roll-outs: many steps with bounded memory, in training by checkpoints, at inference by tiles."""

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
        engine: who computes it.
        cell: perception and update rule.
        state: ``(B, C, *spatial)``.
        steps: how many steps.
        fire: which cells update.
        checkpoint: while gradients are recorded, keep every n-th state and recompute the rest.
        tile: at inference, the size in cells of the parts that are computed one after the other;
            the result is that of the whole, up to rounding.
        record: called with the state after every step (not with checkpoints or tiles).

    Returns:
        The new state ``(B, C, *spatial)``.

    The options of the cell (alive, clock, stop) are heeded, see :mod:`medseg_nca.nca.stepwise`.
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
