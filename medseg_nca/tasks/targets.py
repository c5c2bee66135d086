"""Training targets on the grid of each level."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg_nca.models import LevelOutput
from medseg_nca.models.geometry import Region, crop, shrink


def one_hot(label: Tensor, channels: int, multi_label: bool) -> Tensor:
    """Map an encoded label to float ``(B, K, *spatial)``.

    Exclusive labels come as channel numbers ``(B, 1, *spatial)``, overlapping ones as one binary
    channel each.
    """
    if multi_label:
        return label.float()
    return F.one_hot(label[:, 0].long(), channels).movedim(-1, 1).float()


def level_target(label: Tensor, output: LevelOutput, multi_label: bool) -> Tensor:
    """Return what a level should say: the share of each label in each of its cells.

    Args:
        label: encoded, ``(B, L, *spatial)``, at full resolution.
        output: of the level, which may cover a part of the image, or end beyond it.
        multi_label: how the label is encoded.
    """
    size = tuple(output.logits.shape[2:])
    voxels = Region(output.starts, size).finer(output.scale)
    ends = [max(start[axis] for start in voxels.starts) + n for axis, n in enumerate(voxels.size)]
    missing = [max(e - n, 0) for e, n in zip(ends, label.shape[2:], strict=True)]
    if any(missing):
        label = F.pad(label, [v for m in reversed(missing) for v in (0, m)])
    part = crop(label, voxels.starts, voxels.size)
    return shrink(one_hot(part, output.logits.shape[1], multi_label), output.scale)


def overflow(state: Tensor | None, bound: float) -> Tensor:
    """Mean distance of state values from [-bound, bound] (Growing NCA's overflow loss)."""
    if state is None:
        return torch.zeros(())
    return (state - state.clamp(-bound, bound)).abs().mean()
