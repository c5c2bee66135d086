"""The targets of a level's logits."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F


def shares(label: Tensor, scale: Sequence[int], channels: int) -> Tensor:
    """Return the share of each channel number in each block of a label map, ``(K, *blocks)``.

    Args:
        label: channel numbers ``(*S)``; sizes are multiples of ``scale``.
        scale: voxels of a block per axis.
        channels: number of channels ``K``.
    """
    if all(s == 1 for s in scale):
        return F.one_hot(label.long(), channels).movedim(-1, 0).float()
    sizes = [n // s for n, s in zip(label.shape, scale, strict=True)]
    split = [v for n, s in zip(sizes, scale, strict=True) for v in (n, s)]
    blocks = label.reshape(split).permute(
        *range(0, 2 * len(sizes), 2), *range(1, 2 * len(sizes), 2)
    )
    blocks = blocks.reshape(prod(sizes), prod(scale)).int()
    blocks = blocks + channels * torch.arange(len(blocks), dtype=torch.int32)[:, None]
    counts = torch.bincount(blocks.flatten(), minlength=channels * len(blocks))
    return (counts.view(*sizes, channels).movedim(-1, 0) / prod(scale)).float()
