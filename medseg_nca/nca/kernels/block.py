"""The rule on a block of cells that fire, forward and backward; everything stays in the cache."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from medseg_nca.nca.kernels import simd, vectors
from medseg_nca.nca.kernels.jit import compiled, reordering
from medseg_nca.nca.kernels.layout import Buffers, Grid
from medseg_nca.nca.kernels.rule import ACTIVATIONS, Rule
from medseg_nca.nca.update import EPS

_WIDTH4, _WIDTH8 = vectors.lanes(4), vectors.lanes(8)
DENSE_ROWS, _STENCIL = vectors.DENSE_ROWS, vectors.STENCIL_ROWS
SLOPE = 0.01  # of torch's leaky_relu
RELU, LEAKY_RELU, GELU, SILU = (ACTIVATIONS[a] for a in ("relu", "leaky_relu", "gelu", "silu"))
Flat = np.ndarray[Any, Any]


@compiled
def lanes_of(array: Flat) -> int:
    """How many of the array's numbers are computed at a time; bfloat16 is computed in float32."""
    return _WIDTH8 if array.itemsize == 8 else _WIDTH4


def _make_product(wide: Any, narrow: Any) -> Any:
    """A matrix product made of tiles; rows are rounded up to whole tiles."""

    @compiled
    def product(
        a: Flat, a0: int, a_row: int, a_col: int, b: Flat, b0: int, b_row: int,
        c: Flat, c0: int, c_row: int, rows: int, columns: int, depth: int,
    ) -> None:  # fmt: skip
        width = lanes_of(c)
        whole = columns - columns % (2 * width)
        for j in range(0, whole, 2 * width):
            for i in range(0, rows, DENSE_ROWS):
                wide(a, a0 + i * a_row, a_row, a_col, b, b0 + j, b_row,
                     c, c0 + i * c_row + j, c_row, depth)  # fmt: skip
        if whole < columns:
            for i in range(0, rows, 2 * DENSE_ROWS):
                narrow(a, a0 + i * a_row, a_row, a_col, b, b0 + whole, b_row,
                       c, c0 + i * c_row + whole, c_row, depth)  # fmt: skip

    return product


# c = a b, c += a b, c = max(a b, 0): ``x0`` is an offset, ``x_row`` the distance of two rows.
product = _make_product(simd.dense_wide, simd.dense_narrow)
add_product = _make_product(simd.dense_wide_add, simd.dense_narrow_add)
relu_product = _make_product(simd.dense_wide_relu, simd.dense_narrow_relu)


@compiled
def perceive(state: Flat, n: int, grid: Grid, rule: Rule, buffers: Buffers) -> None:
    """Fill ``buffers.rows`` with ``[x | features | 1]`` of the ``n`` cells at ``buffers.bases``."""
    channels, row, taps = grid.channels, rule.row, len(grid.offsets)
    rows, bases = buffers.rows, buffers.bases
    one = rows.dtype.type(1)
    last = channels + rule.features
    width = lanes_of(rows)
    for i in range(n):
        for c in range(0, channels, width):
            simd.copy_vector(state, bases[i] + c, rows, i * row + c)
        rows[i * row + last] = one
    if rule.convolution:
        size = taps * channels
        for i in range(n):
            for t in range(taps):
                base, to = bases[i] + grid.offsets[t], i * size + t * channels
                for c in range(0, channels, width):
                    simd.copy_vector(state, base + c, buffers.patch, to + c)
        product(buffers.patch, 0, size, 1, rule.filters, 0, rule.features,
                rows, channels, row, n, rule.features, size)  # fmt: skip
        return
    whole = channels - channels % (2 * width)
    for f in range(rule.filter_count):
        first, to = f * taps * channels, (f + 1) * channels
        for c in range(0, whole, 2 * width):
            for i in range(0, n, _STENCIL):
                simd.stencil_wide(state, bases, i, c, grid.offsets, taps, rule.filters,
                                  first + c, channels, rows, i * row + to + c, row)  # fmt: skip
        if whole < channels:
            for i in range(0, n, 2 * _STENCIL):
                simd.stencil_narrow(state, bases, i, whole, grid.offsets, taps, rule.filters,
                                    first + whole, channels, rows, i * row + to + whole,
                                    row)  # fmt: skip


@reordering
def normalise(hidden: Flat, inverse: Flat, n: int, rule: Rule) -> None:
    """Divide each row by its root mean square; ``inverse`` keeps what it was multiplied by."""
    one, eps = hidden.dtype.type(1), hidden.dtype.type(EPS)
    units = hidden.dtype.type(rule.units)
    for i in range(n):
        start = i * rule.hidden
        total = hidden.dtype.type(0)
        for h in range(rule.hidden):
            total += hidden[start + h] * hidden[start + h]
        factor = one / np.sqrt(total / units + eps)
        for h in range(rule.hidden):
            hidden[start + h] *= factor
        inverse[i] = factor


@compiled
def _relu(hidden: Flat, active: Flat, n: int, rule: Rule) -> None:
    zero, width, scale, shift = hidden.dtype.type(0), rule.hidden, rule.scale, rule.shift
    for i in range(n):
        for h in range(width):
            value = hidden[i * width + h] * scale[h] + shift[h]
            active[i * width + h] = zero if value < zero else value


@compiled
def _smooth(hidden: Flat, active: Flat, n: int, rule: Rule) -> None:
    for i in range(n):
        for h in range(rule.hidden):
            value = hidden[i * rule.hidden + h] * rule.scale[h] + rule.shift[h]
            if rule.activation == LEAKY_RELU:
                result = value * SLOPE if value < 0 else value
            elif rule.activation == GELU:
                result = value * 0.5 * (1.0 + math.erf(value * math.sqrt(0.5)))
            else:
                result = value / (1.0 + math.exp(-value))
            active[i * rule.hidden + h] = result


@compiled
def activate(n: int, grid: Grid, rule: Rule, buffers: Buffers) -> None:
    """Fill ``hidden`` with the activations of the perceived rows."""
    depth = grid.channels + rule.features + 1
    if rule.activation == RELU and not rule.norm:
        relu_product(buffers.rows, 0, rule.row, 1, rule.w0, 0, rule.hidden,
                     buffers.hidden, 0, rule.hidden, n, rule.hidden, depth)  # fmt: skip
        return
    if rule.activation == RELU:
        product(buffers.rows, 0, rule.row, 1, rule.w0, 0, rule.hidden,
                buffers.hidden, 0, rule.hidden, n, rule.hidden, depth)  # fmt: skip
        for i in range(n):
            simd.normalise_relu(
                buffers.hidden, i * rule.hidden, rule.hidden, rule.units, rule.scale
            )
        return
    hidden_values(n, grid, rule, buffers)
    apply_activation(buffers.hidden, buffers.hidden, n, rule)


@compiled
def hidden_values(n: int, grid: Grid, rule: Rule, buffers: Buffers) -> None:
    """Fill ``hidden`` with the values before the norm's scale and shift and the activation.

    Of a batch norm ``buffers.mean`` holds the means, ``buffers.squares`` one over the deviations.
    """
    depth = grid.channels + rule.features + 1
    product(buffers.rows, 0, rule.row, 1, rule.w0, 0, rule.hidden,
            buffers.hidden, 0, rule.hidden, n, rule.hidden, depth)  # fmt: skip
    if rule.norm:
        normalise(buffers.hidden, buffers.inverse, n, rule)
    if rule.batch:
        for i in range(n):
            for h in range(rule.hidden):
                at = i * rule.hidden + h
                buffers.hidden[at] = (buffers.hidden[at] - buffers.mean[h]) * buffers.squares[h]


@compiled
def apply_activation(hidden: Flat, active: Flat, n: int, rule: Rule) -> None:
    """``active = act(scale * hidden + shift)``."""
    if rule.activation == RELU:
        _relu(hidden, active, n, rule)
    else:
        _smooth(hidden, active, n, rule)


@compiled
def update_block(src: Flat, dst: Flat, n: int, grid: Grid, rule: Rule, buffers: Buffers) -> None:
    """Add the change to the ``n`` cells at ``buffers.bases``; ``dst`` holds their old state."""
    channels = grid.channels
    perceive(src, n, grid, rule, buffers)
    activate(n, grid, rule, buffers)
    product(buffers.hidden, 0, rule.hidden, 1, rule.w1, 0, channels,
            buffers.change, 0, channels, n, channels, rule.hidden)  # fmt: skip
    width = lanes_of(dst)
    fours = n - n % 4
    for c in range(0, channels, width):
        for i in range(0, fours, 4):
            simd.add_four_rows(buffers.change, i * channels + c, channels, dst, buffers.bases, i,
                               c, buffers.health)  # fmt: skip
        for i in range(fours, n):
            simd.add_row(buffers.change, i * channels + c, channels, dst, buffers.bases, i,
                         c, buffers.health)  # fmt: skip
