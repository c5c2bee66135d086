"""Roll-outs: many steps with bounded memory, in training by checkpoints, at inference by tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recompute

from medseg_nca.nca.cell import Cell
from medseg_nca.nca.engines.base import Engine, Record
from medseg_nca.nca.fire import Fire
from medseg_nca.nca.window import cut

# A halo grows with the steps between two exchanges of borders; this many cells keep it thin.
_MAX_HALO = 12


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
    """
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
    return _tiled(engine, cell, state, steps, fire, tile)


def _tiled(
    engine: Engine, cell: Cell, state: Tensor, steps: int, fire: Fire, tile: Sequence[int]
) -> Tensor:
    """Run few steps on every tile with a halo, then exchange borders, until all steps are done."""
    chunk = max(1, _MAX_HALO // max(cell.radius, 1))
    for first in range(0, steps, chunk):
        count = min(chunk, steps - first)
        later = fire.advance(first)
        result = torch.empty_like(state)
        for inner, outer in _tiles(state.shape[2:], tile, count * cell.radius):
            part = cut(state, outer)
            origin = [axis.start for axis in outer]
            rolled = engine.roll_out(cell, part, count, later.at(origin), None)
            pairs = zip(inner, outer, strict=True)
            core = [slice(i.start - o.start, i.stop - o.start) for i, o in pairs]
            cut(result, inner).copy_(cut(rolled, core))
        state = result
    return state


def _tiles(
    shape: Sequence[int], tile: Sequence[int], halo: int
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield every tile as (slices of its core, slices with the halo)."""
    starts = [range(0, size, step) for size, step in zip(shape, tile, strict=True)]
    for corner in product(*starts):
        ends = [min(c + t, n) for c, t, n in zip(corner, tile, shape, strict=True)]
        inner = tuple(slice(c, e) for c, e in zip(corner, ends, strict=True))
        outer = tuple(
            slice(max(c - halo, 0), min(e + halo, n))
            for c, e, n in zip(corner, ends, shape, strict=True)
        )
        yield inner, outer
