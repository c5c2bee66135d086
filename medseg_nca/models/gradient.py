"""What of a gradient goes back from a level to the one before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Lessened(torch.autograd.Function):
    """The same numbers; the gradient times a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None


def lessen_gradient(x: Tensor, factor: float) -> Tensor:
    """Return ``x``; what of a gradient passes back through it is ``factor`` times as large.

    The gradient of a loss grows on its way back through the steps of each level, until it drowns
    that of a coarse level's own loss: docs/recipe.md has the figures.
    """
    if factor == 1:
        return x
    if factor == 0:
        return x.detach()
    lessened: Tensor = _Lessened.apply(x, factor)  # type: ignore[no-untyped-call]
    return lessened
