"""How large a part of the grid a level may compute at once."""

from __future__ import annotations

from torch import Tensor

from medseg_nca.nca import Cell

_BYTES = 4
# Smaller tiles would be halo more than core.
_SMALLEST = 32


def bytes_per_cell(cell: Cell) -> int:
    """Working memory of one inference step, for each cell of the part that is computed.

    The state twice, the perceived values, and for the firing cells what the update rule reads, its
    hidden values (before and after the activation) and the change.
    """
    state, features = cell.channels, cell.perception.features
    firing = state + features + 2 * cell.settings.update.hidden + 2 * state
    return _BYTES * (3 * state + 2 * features + firing)


def tile_size(cell: Cell, state: Tensor, memory_gb: float | None) -> tuple[int, ...] | None:
    """Return the tile for a memory budget, or None when the whole grid fits."""
    if memory_gb is None:
        return None
    size = list(state.shape[2:])
    budget = memory_gb * 1e9 / (bytes_per_cell(cell) * state.shape[0])
    while _cells(size) > budget and max(size) > _SMALLEST:
        longest = size.index(max(size))
        size[longest] = max(-(-size[longest] // 2), _SMALLEST)
    return None if size == list(state.shape[2:]) else tuple(size)


def _cells(size: list[int]) -> int:
    total = 1
    for n in size:
        total *= n
    return total
