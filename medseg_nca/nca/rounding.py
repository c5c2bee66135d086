"""Cells for states stored as bfloat16: half the memory of float32, eight bits of precision."""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakKeyDictionary

import torch

from medseg_nca.nca.cell import Cell

_rounded: WeakKeyDictionary[Cell, tuple[Any, Cell]] = WeakKeyDictionary()


def rounded(cell: Cell) -> Cell:
    """Return a copy of the cell whose weights are rounded to bfloat16 and stored as float32.

    The arithmetic stays float32. The copy is kept, and made again only when the weights change.
    """
    weights = (*cell.parameters(), *cell.buffers())
    # The bytes of the weights are compared, because some changes leave a tensor's version as it is.
    key = tuple(w.detach().cpu().double().numpy().tobytes() for w in weights)
    kept = _rounded.get(cell)
    if kept is None or kept[0] != key:
        twin = copy.deepcopy(cell).float()
        with torch.no_grad():
            for weight in (*twin.parameters(), *twin.buffers()):
                weight.copy_(weight.bfloat16())
        kept = (key, twin)
        _rounded[cell] = kept
    return kept[1]
