"""Fixed filters, and banks of filters as perceptions begin with them."""

from __future__ import annotations

from functools import reduce
from math import prod

import torch
from torch import Tensor, nn

from medseg_nca.config.model import PerceptionSettings

_SMOOTH = (1.0, 2.0, 1.0)
_DERIVE = (-1.0, 0.0, 1.0)
_SECOND = (1.0, -2.0, 1.0)
_DELTA = (0.0, 1.0, 0.0)


def sobel_filters(dims: int) -> Tensor:
    """Derivative along each axis, smoothed along the others: ``(dims, 3, ...)``.

    Scaled so that a ramp of slope 1 gives 1 (Growing NCA, Mordvintsev et al. 2020, uses the 2D
    filters divided by 8).
    """
    derive, smooth = _line(_DERIVE) / 2, _line(_SMOOTH) / 4
    return torch.stack(
        [_product([derive if a == axis else smooth for a in range(dims)]) for axis in range(dims)]
    )


def laplace_filter(dims: int) -> Tensor:
    """The sum of the second differences along every axis: ``(1, 3, ...)``."""
    second, delta = _line(_SECOND), _line(_DELTA)
    parts = [[second if a == axis else delta for a in range(dims)] for axis in range(dims)]
    return torch.stack([_product(part) for part in parts]).sum(0, keepdim=True)


def for_each_channel(filters: Tensor, channels: int) -> Tensor:
    """Give every channel the same filters ``(n, *kernel)``: ``(channels * n, 1, *kernel)``."""
    return filters.repeat(channels, *[1] * (filters.ndim - 1)).unsqueeze(1)


def learned_filters(
    settings: PerceptionSettings, channels: int, inputs: int, dims: int
) -> tuple[nn.Parameter, nn.Parameter | None]:
    """Return weight and bias of ``settings.filters`` learned filters a channel.

    Args:
        settings: with ``kernel``, ``filters`` and ``bias``.
        channels: number of channels of the state.
        inputs: how many channels a filter reads, 1 or all.
        dims: number of spatial axes.
    """
    shape = (channels * settings.filters, inputs, *(settings.kernel,) * dims)
    # The bound that nn.Conv starts from: 1 / sqrt(fan in).
    bound = prod(shape[1:]) ** -0.5
    weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
    bias = nn.Parameter(torch.empty(shape[0]).uniform_(-bound, bound)) if settings.bias else None
    return weight, bias


def _line(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, device="cpu")  # also where a model is built as shapes ("meta")


def _product(lines: list[Tensor]) -> Tensor:
    return reduce(lambda f, g: f.unsqueeze(-1) * g, lines)
