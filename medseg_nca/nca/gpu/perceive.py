"""Parts of kernels: perception and the update rule up to the hidden values."""

from __future__ import annotations

from medseg_nca.nca.gpu.cells import near_border, product
from medseg_nca.nca.gpu.language import constant, part, tl
from medseg_nca.nca.update_rules.base import EPS

_EPS = constant(EPS)


@part
def row_of(i, d, n, live, K: tl.constexpr, PADDING: tl.constexpr, NEAR: tl.constexpr):
    """Neighbour ``d`` of ``K`` on one axis: its index, and whether there is such a cell."""
    p = i + (d - K // 2)
    index = near_border(p, n, PADDING, NEAR)
    inside = live
    if PADDING == "zero":
        inside = live & (p >= 0) & (p < n)
    return index, inside


@part
def values(pointer, cell, c, inside, WIDTH: tl.constexpr):
    """Read the channels ``c`` of cells; zero for cells that are not inside.

    Args:
        pointer: to an array ``(cells, WIDTH)``.
        cell: index of each cell, ``(n,)``.
        c: which channels.
        inside: which cells are read.
        WIDTH: channels in memory, a constant.
    """
    where = pointer + cell[:, None] * WIDTH + c[None, :]
    return tl.load(where, mask=inside[:, None] & (c < WIDTH)[None, :], other=0.0)


@part
def perceived(
    x_ptr, filter_ptr, i0, i1, i2, live, n0, n1, n2,
    K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, CS: tl.constexpr, CP: tl.constexpr,
    FP: tl.constexpr, CONV: tl.constexpr, PADDING: tl.constexpr, NEAR: tl.constexpr,
    PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """What one depthwise filter gives, ``(cells, CP)``, or the convolution, ``(cells, FP)``."""
    c, f = tl.arange(0, CP), tl.arange(0, FP)
    seen = tl.full([i0.shape[0], FP], 0.0, ACC)
    for d0 in range(K0):
        j0, in0 = row_of(i0, d0, n0, live, K0, PADDING, NEAR)
        for d1 in range(K1):
            j1, in1 = row_of(i1, d1, n1, in0, K1, PADDING, NEAR)
            row = (j0 * n1 + j1) * n2
            tap = (d0 * K1 + d1) * K2
            for d2 in tl.range(0, K2, loop_unroll_factor=1 if CONV else K2):
                j2, inside = row_of(i2, d2, n2, in1, K2, PADDING, NEAR)
                x = values(x_ptr, row + j2, c, inside, CS).to(ACC)
                if CONV:
                    w = tl.load(filter_ptr + ((tap + d2) * CP + c[:, None]) * FP + f[None, :])
                    seen += product(x, w, PRECISION)
                else:
                    seen += x * tl.load(filter_ptr + (tap + d2) * CP + c)[None, :]
    return seen


@part
def matrix(pointer, rows, columns, WIDTH: tl.constexpr):
    """A part of a matrix that has ``WIDTH`` columns in memory."""
    return tl.load(pointer + rows[:, None] * WIDTH + columns[None, :])


@part
def hidden(
    x_ptr, own, filters_ptr, w0_ptr, i0, i1, i2, live,
    n0, n1, n2,
    K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, CS: tl.constexpr, CP: tl.constexpr,
    FP: tl.constexpr, HP: tl.constexpr, FILTERS: tl.constexpr, CONV: tl.constexpr,
    PADDING: tl.constexpr, NEAR: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The hidden values before the norm, ``(cells, HP)``: ``W0 [x | features] + b0``.

    The last row of the matrix in memory is the bias; the rows of a filter follow those of ``x``.
    """
    c, f, h = tl.arange(0, CP), tl.arange(0, FP), tl.arange(0, HP)
    sums = product(own, matrix(w0_ptr, c, h, HP), PRECISION)
    sums += tl.load(w0_ptr + (CP + FILTERS * FP) * HP + h)[None, :]
    for number in tl.static_range(FILTERS):
        seen = perceived(
            x_ptr, filters_ptr + number * K0 * K1 * K2 * CP, i0, i1, i2, live, n0, n1, n2,
            K0, K1, K2, CS, CP, FP, CONV, PADDING, NEAR, PRECISION, ACC,
        )  # fmt: skip
        sums += product(seen, matrix(w0_ptr + (CP + number * FP) * HP, f, h, HP), PRECISION)
    return sums


@part
def root_mean_square(h, HIDDEN: tl.constexpr):
    """One over the root of the mean square of each cell's hidden values, ``(cells,)``."""
    return tl.rsqrt(tl.sum(h * h, 1) / HIDDEN + _EPS)


@part
def activated(z, ACTIVATION: tl.constexpr):
    """The activation of each value, as in ``medseg_nca.nca.update_rules.base.ACTIVATIONS``."""
    if ACTIVATION == "relu":
        a = tl.where(z <= 0, 0.0, z)  # on a GPU the larger of NaN and 0 would be 0
    elif ACTIVATION == "leaky_relu":
        a = tl.where(z > 0, z, z * 0.01)
    elif ACTIVATION == "gelu":
        a = 0.5 * z * (1.0 + tl.erf(z * 0.7071067811865476))
    else:
        a = z * logistic(z)
    return a


@part
def logistic(z):
    """One over 1 + exp(-z), without overflow."""
    e = tl.exp(-tl.abs(z))
    return tl.where(z >= 0, 1.0, e) / (1.0 + e)


@part
def slope(z, ACTIVATION: tl.constexpr):
    """The derivative of the activation."""
    if ACTIVATION == "relu":
        s = tl.where(z > 0, 1.0, 0.0).to(z.dtype)
    elif ACTIVATION == "leaky_relu":
        s = tl.where(z > 0, 1.0, 0.01).to(z.dtype)
    elif ACTIVATION == "gelu":
        s = 0.5 * (1.0 + tl.erf(z * 0.7071067811865476))
        s += z * tl.exp(-0.5 * z * z) * 0.3989422804014327
    else:
        e = logistic(z)
        s = e * (1.0 + z * (1.0 - e))
    return s
