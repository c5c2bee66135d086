"""A cell's weights, packed for the compiled loops.

The weights are packed by torch operations, so that torch itself takes the gradients of the packed
arrays back to the parameters. What a cell perceives is a row ``[x | features | 1]``, where ``x``
and the features are each padded to whole vectors and the 1 is multiplied by the bias.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from medseg_nca.nca.cell import Cell
from medseg_nca.nca.kernels.layout import padded_channels, round_up
from medseg_nca.nca.kernels.library import Rule, library

_packed: WeakKeyDictionary[Cell, tuple[Any, PackedRule]] = WeakKeyDictionary()
ACTIVATIONS = {"relu": 0, "leaky_relu": 1, "gelu": 2, "silu": 3}


@dataclass(frozen=True)
class PackedRule:
    """The packed weights as tensors of a graph, and the numbers that go with them.

    Attributes:
        filters: ``(filters, taps, C)`` for depthwise filters, ``(taps * C, features)`` for a full
            convolution; ``C`` counts channels with padding.
        w0: first matrix, ``(inputs, hidden)``: a row for each channel of the state, each feature,
            and the bias.
        w1: second matrix, ``(hidden, C)``.
        scale: ``(hidden,)``, scale of the norm; ones if there is no norm.
        shift: ``(hidden,)``, shift of the batch norm; zeros if there is none.
        convolution: whether the filters mix channels.
        filter_count: number of depthwise filters of each channel; 0 for a convolution.
        units: number of hidden units without padding.
        norm: whether each cell's hidden values are normalised (RMS).
        batch: whether each hidden unit is normalised over all cells that fire.
        activation: number of the activation in ``ACTIVATIONS``.
    """

    filters: Tensor
    w0: Tensor
    w1: Tensor
    scale: Tensor
    shift: Tensor
    convolution: bool
    filter_count: int
    units: int
    norm: bool
    batch: bool
    activation: int

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The packed weights that gradients are computed for."""
        return self.filters, self.w0, self.w1, self.scale, self.shift

    def rule(self, channels: int, backward: bool) -> Rule:
        """Return the weights as the compiled loops take them.

        Args:
            channels: number of channels with padding.
            backward: whether the transposes that the backward pass needs are added.
        """
        filters, w0, w1, scale, shift = (t.detach().contiguous() for t in self.tensors)
        inputs = w0.shape[0] - 1

        def transposed(matrix: Tensor) -> np.ndarray[Any, Any]:
            return _flat(matrix.t().contiguous() if backward else matrix[:0])

        return Rule(
            filters=_flat(filters), w0=_flat(w0), w1=_flat(w1), scale=_flat(scale),
            shift=_flat(shift),
            filters_back=transposed(filters) if self.convolution else _flat(filters[:0]),
            w0_back=transposed(w0[:-1]), w1_back=transposed(w1),
            convolution=self.convolution, filter_count=self.filter_count,
            features=inputs - channels, hidden=w0.shape[1], units=self.units,
            row=round_up(inputs + 1, library().lanes(w0.dtype)),
            norm=self.norm, batch=self.batch, activation=self.activation,
        )  # fmt: skip


def pack_once(cell: Cell, scale: float, dtype: torch.dtype) -> PackedRule:
    """Do what :func:`pack` does, without gradients, and only again when weights have changed."""
    weights = (*cell.parameters(), *cell.buffers())
    # The bytes of the weights are compared, because some changes leave a tensor's version as it is.
    key = (scale, dtype, *(w.detach().numpy().tobytes() for w in weights))
    kept = _packed.get(cell)
    if kept is None or kept[0] != key:
        with torch.no_grad():
            kept = (key, pack(cell, scale, dtype))
        _packed[cell] = kept
    return kept[1]


def _flat(tensor: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.reshape(-1).numpy()
    return array


def pack(
    cell: Cell, scale: float, dtype: torch.dtype, room: Callable[[int], int] | None = None
) -> PackedRule:
    """Pack a cell whose update is multiplied by ``scale``.

    Args:
        cell: a bank of filters and a rule of two layers.
        scale: factor on the update of cells that fire (:attr:`Fire.scale`).
        dtype: type of the packed weights, float32 or float64.
        room: how many places a number of channels, features or hidden units gets; by default, that
            of whole vectors.
    """
    room = room or (lambda count: padded_channels(count, dtype))
    channels = room(cell.channels)
    hidden = room(cell.settings.update.hidden)
    bank, layers = cell.perception.bank, cell.update.layers()
    assert bank is not None
    convolution = bank.mixes
    w0, b0 = layers.w0.to(dtype), layers.b0.to(dtype)
    own, seen = w0[:, : cell.channels], w0[:, cell.channels :]
    weight, bias = cell.perception.filters()
    if bias is not None:
        b0 = b0 + seen @ bias.to(dtype)
    weight = weight.to(dtype)
    if convolution:
        filters, features = _pack_convolution(weight, seen, channels, room(weight.shape[0]))
        count = 0
    else:
        count = weight.shape[0] // cell.channels
        filters, features = _pack_depthwise(weight, seen, count, channels)
    rows = torch.cat((_pad(own.t(), channels), features, b0[None]))
    changing = cell.channels - cell.image_channels
    w1 = layers.w1.to(dtype)[-changing:].t() * scale
    w1 = F.pad(w1, (cell.image_channels, channels - cell.channels, 0, hidden - w1.shape[0]))
    norm = w0.new_ones(hidden) if layers.scale is None else layers.scale.to(dtype)
    shift = w0.new_zeros(hidden) if layers.shift is None else layers.shift.to(dtype)
    batch = layers.shift is not None
    return PackedRule(
        filters=filters, w0=F.pad(rows, (0, hidden - rows.shape[1])), w1=w1,
        scale=F.pad(norm, (0, hidden - len(norm))), shift=F.pad(shift, (0, hidden - len(shift))),
        convolution=convolution, filter_count=count, units=cell.settings.update.hidden,
        norm=layers.scale is not None and not batch, batch=batch,
        activation=ACTIVATIONS[cell.settings.update.activation],
    )  # fmt: skip


def _pad(matrix: Tensor, rows: int) -> Tensor:
    return F.pad(matrix, (0, 0, 0, rows - matrix.shape[0]))


def _pack_depthwise(
    weight: Tensor, seen: Tensor, count: int, channels: int
) -> tuple[Tensor, Tensor]:
    """Return the filters ``(count, taps, C)``, and the rows of ``w0`` for their features."""
    own = weight.shape[0] // count
    missing = channels - own
    filters = F.pad(weight.reshape(own, count, -1).permute(1, 2, 0), (0, missing))
    features = seen.reshape(len(seen), own, count).permute(2, 1, 0)
    return filters, F.pad(features, (0, 0, 0, missing)).reshape(count * channels, -1)


def _pack_convolution(
    weight: Tensor, seen: Tensor, channels: int, features: int
) -> tuple[Tensor, Tensor]:
    """Return the filters ``(taps * C, features)``, and the rows of ``w0`` for their features."""
    filters = weight.flatten(2).permute(2, 1, 0)
    filters = F.pad(filters, (0, features - weight.shape[0], 0, channels - weight.shape[1]))
    return filters.reshape(-1, features), _pad(seen.t(), features)
