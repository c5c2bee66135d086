"""Perception: what a cell sees of its neighbourhood, ``p = [x, K * x]``."""

from __future__ import annotations

from functools import reduce
from math import prod

import torch
from torch import Tensor, nn

from medseg_nca.config.model import PerceptionSettings
from medseg_nca.nca.depthwise import convolve, depthwise

_SMOOTH = torch.tensor([1.0, 2.0, 1.0])
_DERIVE = torch.tensor([-1.0, 0.0, 1.0])
_SECOND = torch.tensor([1.0, -2.0, 1.0])
_DELTA = torch.tensor([0.0, 1.0, 0.0])


def sobel_filters(dims: int) -> Tensor:
    """Derivative along each axis, smoothed along the others: ``(dims, 3, ...)``.

    Scaled so that a ramp of slope 1 gives 1 (Growing NCA, Mordvintsev et al. 2020, uses the 2D
    filters divided by 8).
    """
    filters = []
    for axis in range(dims):
        factors = [_DERIVE / 2 if a == axis else _SMOOTH / 4 for a in range(dims)]
        filters.append(reduce(lambda f, g: f.unsqueeze(-1) * g, factors))
    return torch.stack(filters)


def laplace_filter(dims: int) -> Tensor:
    """The sum of the second differences along every axis: ``(1, 3, ...)``."""
    total = torch.zeros((3,) * dims)
    for axis in range(dims):
        factors = [_SECOND if a == axis else _DELTA for a in range(dims)]
        total += reduce(lambda f, g: f.unsqueeze(-1) * g, factors)
    return total.unsqueeze(0)


def _fixed_filters(kind: str, dims: int) -> Tensor:
    parts = []
    if "sobel" in kind:
        parts.append(sobel_filters(dims))
    if "laplace" in kind:
        parts.append(laplace_filter(dims))
    return torch.cat(parts)


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


class Perception(nn.Module):
    """The features ``K * x`` that every cell computes from its neighbourhood.

    Attributes:
        features: how many values a cell perceives besides its own state.
        radius: how far a cell sees in one step, in cells.
    """

    weight: Tensor

    def __init__(self, settings: PerceptionSettings, channels: int, dims: int) -> None:
        super().__init__()
        self.settings = settings
        self.dims = dims
        self.bias: nn.Parameter | None = None
        fixed = settings.kind not in {"depthwise", "conv"}
        if fixed:
            with torch.device("cpu"):  # also where the model is built as shapes alone ("meta")
                bank = _fixed_filters(settings.kind, dims)
            self.register_buffer("weight", bank.repeat(channels, *[1] * dims).unsqueeze(1))
        else:
            self._learned(settings, channels)
        self.radius = self.weight.shape[-1] // 2
        self.features = self.weight.shape[0]

    def _learned(self, settings: PerceptionSettings, channels: int) -> None:
        inputs = 1 if settings.kind == "depthwise" else channels
        shape = (channels * settings.filters, inputs, *(settings.kernel,) * self.dims)
        # The bound that nn.Conv starts from: 1 / sqrt(fan in).
        bound = prod(shape[1:]) ** -0.5
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        if settings.bias:
            self.bias = nn.Parameter(torch.empty(shape[0]).uniform_(-bound, bound))

    def forward(self, state: Tensor) -> Tensor:
        """Map the state ``(B, *spatial, C)`` to the perceived ``(B, *spatial, features)``."""
        padding = self.radius
        if self.settings.padding != "zero" and padding:
            state = self._pad(state)
            padding = 0
        x = state.movedim(-1, 1)
        if self.settings.kind == "conv":
            y = convolve(x, self.weight, self.bias, padding, groups=1)
        else:
            y = depthwise(x, self.weight, self.bias, padding)
        return y.movedim(1, -1)

    def _pad(self, state: Tensor) -> Tensor:
        for axis in range(1, state.ndim - 1):
            index = border_index(state.shape[axis], self.radius, self.settings.padding)
            state = state.index_select(axis, index.to(state.device))
        return state
