"""What lies beyond the border of a grid."""

from __future__ import annotations

import torch
from torch import Tensor


def border_index(size: int, width: int, padding: str) -> Tensor:
    """Return, for each position of an axis padded by ``width``, the index of the cell it copies.

    Any ``size`` works: a reflection that reaches past the far border is reflected again, and an
    axis of one cell repeats that cell. The result has ``size + 2 * width`` entries.
    """
    position = torch.arange(-width, size + width)
    if padding == "circular":
        return position % size
    if size == 1:
        return torch.zeros_like(position)
    period = 2 * (size - 1)
    folded = position % period
    return torch.minimum(folded, period - folded)
