"""The exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]
Averaging = Callable[[Tensors, Tensors, Tensor | int], None]


def warmed_up_average(decay: float) -> Averaging:
    """Return torch's averaging function with a decay that starts at 0.1 and rises to ``decay``.

    With a constant decay, the average would hold a part of the random start for hundreds of steps.
    """

    @torch.no_grad()
    def average(averages: Tensors, current: Tensors, count: Tensor | int) -> None:
        steps = float(count)
        keep = min(decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(averages, current, 1 - keep)

    return average


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of the model whose parameters are a moving average of the model's.

    Buffers are copied once and not averaged, because the models here have only constant buffers.
    """
    return AveragedModel(model, multi_avg_fn=warmed_up_average(decay), use_buffers=False)
