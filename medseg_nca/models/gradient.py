"""Weaken the gradient that goes back from a level to the level before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Lessened(torch.autograd.Function):
    """Return the same numbers, and multiply their gradient by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None


def lessen_gradient(x: Tensor, factor: float) -> Tensor:
    """Return ``x``; the gradient that passes back through it is multiplied by ``factor``.

    The gradient of a fine level's loss grows on its way back through the steps of each level. At a
    coarse level it would outweigh the gradient of that level's own loss; docs/recipe.md has the
    figures.
    """
    if factor == 1:
        return x
    if factor == 0:
        return x.detach()
    lessened: Tensor = _Lessened.apply(x, factor)  # type: ignore[no-untyped-call]
    return lessened


def without_gradient(x: Tensor, source: Tensor) -> Tensor:
    """Return the values of ``x``; ``source``, of the same shape, gets a gradient of zeros.

    So every weight that ``source`` came from has a gradient, which training in several processes
    asks for.
    """
    if not source.requires_grad:
        return x
    nothing: Tensor = _Lessened.apply(source, 0.0)  # type: ignore[no-untyped-call]
    return x + (nothing - source.detach())
