"""The plain eager step, as published code writes it; what the engines are compared with.

The state is kept channels-last and transposed for each convolution by swapping the channels with
the first spatial axis; every filter is a convolution of its own, on a padded copy; perceived and
hidden values of all cells are arrays of full size, and the random mask is multiplied onto the
change at the end. Written for this comparison after the formulas of Growing NCA (Mordvintsev et al.
2020), Med-NCA (arXiv 2302.03473) and M3D-NCA (arXiv 2309.02954).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg_nca.nca import Cell, Fire
from medseg_nca.nca.engines.base import Engine, Record
from medseg_nca.nca.update_rules.base import ACTIVATIONS, EPS, TwoLayers

NAME = "eager"


@dataclass(frozen=True)
class _Weights:
    """A cell's weights as the layers of published code hold them; gradients reach the cell.

    Attributes:
        filters: one (weight, bias) for each convolution from C to C channels.
        w0: ``(H, C * (1 + convolutions))``.
        w1: ``(C, H)``; the rows of the image are zero or without effect.
        layers: the weights of the update rule.
    """

    filters: list[tuple[Tensor, Tensor | None]]
    groups: int
    w0: Tensor
    w1: Tensor
    layers: TwoLayers


def _weights(cell: Cell) -> _Weights:
    """Take the filters apart: those of a depthwise cell lie side by side for each channel."""
    channels, perception = cell.channels, cell.perception
    assert perception.bank is not None
    full = perception.bank.mixes
    count = perception.features // channels
    order = torch.arange(perception.features)
    order = order.view(count, channels) if full else order.view(channels, count).t()
    # The first spatial axis comes last in the transposed state.
    weight, bias = perception.filters()
    weight = weight.movedim(2, -1)
    layers = cell.update.layers()
    own, seen = layers.w0[:, :channels], layers.w0[:, channels:]
    output = layers.w1
    return _Weights(
        filters=[(weight[rows], None if bias is None else bias[rows]) for rows in order],
        groups=1 if full else channels,
        w0=torch.cat((own, seen[:, order.flatten()]), 1),
        w1=F.pad(output, (0, 0, channels - len(output), 0)),
        layers=layers,
    )


def _perceive(x: Tensor, cell: Cell, weights: _Weights) -> Tensor:
    """Map the state ``(B, *spatial, C)`` to ``(B, *spatial, C * (1 + convolutions))``."""
    padding = cell.settings.perception.padding
    mode = "constant" if padding == "zero" else padding
    convolve = F.conv2d if cell.dims == 2 else F.conv3d
    x = x.transpose(1, -1)
    parts = [x]
    for weight, bias in weights.filters:
        padded = F.pad(x, (cell.radius,) * 2 * cell.dims, mode=mode)
        parts.append(convolve(padded, weight, bias, groups=weights.groups))
    return torch.cat(parts, 1).transpose(1, -1)


def _norm(hidden: Tensor, layers: TwoLayers) -> Tensor:
    scale, shift = layers.scale, layers.shift
    if scale is None:
        return hidden
    if shift is None:
        return hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + EPS) * scale
    turned = hidden.transpose(1, -1)
    return F.batch_norm(turned, None, None, scale, shift, training=True, eps=EPS).transpose(1, -1)


def _step(x: Tensor, cell: Cell, weights: _Weights, fire: Fire) -> Tensor:
    hidden = F.linear(_perceive(x, cell, weights), weights.w0, weights.layers.b0)
    hidden = ACTIVATIONS[cell.settings.update.activation](_norm(hidden, weights.layers))
    change = F.linear(hidden, weights.w1)
    if fire.mode == "mean":
        change = change * fire.rate
    else:
        change = change * (torch.rand(*x.shape[:-1], 1, device=x.device) < fire.rate).to(x.dtype)
    image = cell.image_channels
    return torch.cat((x[..., :image], (x + change)[..., image:]), -1)


class TextbookEngine(Engine):
    """Plain eager code. It draws its mask from torch's generator and ignores the seeds of ``fire``.

    So it agrees with the reference engine where all cells update, and in distribution elsewhere.
    With batch norm its statistics are over all cells, as published.
    """

    def roll_out(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor:
        """See :meth:`Engine.roll_out`; a state that is not finite raises no error here."""
        weights = _weights(cell)
        x = state.movedim(1, -1).contiguous()
        for _ in range(steps):
            x = _step(x, cell, weights, fire)
            if record is not None:
                record(x.movedim(-1, 1))
        return x.movedim(-1, 1)


ENGINE = TextbookEngine()
