"""How large a part of the grid a level may compute at once."""

from __future__ import annotations

from torch import Tensor

from medseg_nca.nca import Cell
from medseg_nca.nca.engines.base import Engine

# Smaller tiles would be halo more than core.
_SMALLEST = 32


def tile_size(
    engine: Engine, cell: Cell, state: Tensor, memory_gb: float | None
) -> tuple[int, ...] | None:
    """Return the tile for a memory budget, or None when the whole grid fits."""
    if memory_gb is None:
        return None
    size = list(state.shape[2:])
    budget = memory_gb * 1e9 / (engine.bytes_per_cell(cell, state) * state.shape[0])
    while _cells(size) > budget and max(size) > _SMALLEST:
        longest = size.index(max(size))
        size[longest] = max(-(-size[longest] // 2), _SMALLEST)
    return None if size == list(state.shape[2:]) else tuple(size)


def _cells(size: list[int]) -> int:
    total = 1
    for n in size:
        total *= n
    return total
