"""Depthwise convolution whose gradient is about as fast as its forward pass on a CPU.

torch's CPU kernels for the gradients of a grouped convolution are up to ten times slower than the
forward kernel. The gradient of the input is itself a depthwise convolution, with the flipped
filter, and is computed as one; that of a filter value is a sum of products of two shifted arrays.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from medseg_nca.nca.window import cut


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, groups: int, dilation: int = 1
) -> Tensor:
    """Apply ``F.conv2d`` or ``F.conv3d``, by the number of axes of ``x (B, C, *spatial)``."""
    conv = F.conv2d if x.ndim == 4 else F.conv3d
    return conv(x, weight, bias, padding=padding, groups=groups, dilation=dilation)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, dilation: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.dilation = padding, dilation
        ctx.has_bias = bias is not None
        return convolve(x, weight, bias, padding, x.shape[1], dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        format_ = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        grad = grads[0].contiguous(memory_format=format_)
        spatial = tuple(range(2, x.ndim))
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            padding = ctx.dilation * (weight.shape[-1] - 1) - ctx.padding
            turned = weight.flip(spatial)
            grad_x = convolve(grad, turned, None, padding, x.shape[1], ctx.dilation)
        if ctx.needs_input_grad[1]:
            grad_weight = _filter_gradient(x, grad, weight.shape, ctx.padding, ctx.dilation)
        if ctx.has_bias and ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, *spatial))
        return grad_x, grad_weight, grad_bias, None, None


def _filter_gradient(
    x: Tensor, grad: Tensor, shape: torch.Size, padding: int, dilation: int
) -> Tensor:
    """Return, for each offset of the filter, the sum over cells of shifted ``x`` times ``grad``.

    Both arrays are laid out on the padded grid, where an offset is a shift of the flat array. So
    each product runs over one long contiguous array instead of many short rows. ``grad`` is zero
    in the border, so that no product wraps around from one row to the next.
    """
    axes, channels = x.ndim - 2, x.shape[1]
    padded = F.pad(x, (padding,) * 2 * axes).movedim(1, -1).contiguous()
    outer = torch.zeros_like(padded)
    cut(outer.movedim(-1, 1), (slice(n) for n in grad.shape[2:])).copy_(grad)
    values, weights = padded.view(-1, channels), outer.view(-1, channels)
    strides = [stride // channels for stride in padded.stride()[1:-1]]
    ones = weights.new_ones(len(weights))
    sums = []
    for offset in product(*(range(k) for k in shape[2:])):
        shift = dilation * sum(o * s for o, s in zip(offset, strides, strict=True))
        count = len(values) - shift
        sums.append(torch.mv((values[shift:] * weights[:count]).t(), ones[:count]))
    return torch.stack(sums, -1).view(shape)


def depthwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, dilation: int = 1
) -> Tensor:
    """Convolve each channel with its own filters.

    Args:
        x: ``(B, C, *spatial)``, best in channels-last memory.
        weight: ``(C * filters, 1, *kernel)``; the kernel has the same odd size along every axis.
        bias: ``(C * filters,)`` or None.
        padding: number of zeros added on each side of every spatial axis.
        dilation: cells from one value of a filter to the next.

    Returns:
        ``(B, C * filters, *spatial)``; the filters of a channel lie side by side.
    """
    one_filter = weight.shape[0] == x.shape[1]
    if one_filter and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        return _Depthwise.apply(x, weight, bias, padding, dilation)  # type: ignore[no-any-return, no-untyped-call]
    return convolve(x, weight, bias, padding, x.shape[1], dilation)
