"""The kernels of the backward pass of a step.

``back_rule`` computes the hidden values again, takes the gradient through the update rule and sums
up the gradients of the weights; ``back_perception`` takes the gradient of the features back through
the filters. With reflect or circular padding the latter works on the padded grid, and ``fold`` adds
the border's values to the cells that the border copied.
"""

from __future__ import annotations

from medseg_nca.nca.gpu.cells import firing, product, tile_cells
from medseg_nca.nca.gpu.forward import normalised
from medseg_nca.nca.gpu.language import kernel, part, tl
from medseg_nca.nca.gpu.perceive import (
    activated,
    hidden,
    matrix,
    root_mean_square,
    row_of,
    slope,
    values,
)

RUNTIME = (
    "n0", "n1", "n2", "m1", "m2", "o0", "o1", "o2", "key", "level", "tiles", "all_tiles", "row",
    "count", "r0", "r1", "r2", "p0", "p1", "p2", "l0", "l1", "l2",
)  # fmt: skip


@part
def add_to(pointer, value):
    """Add to numbers that only this program adds to, so that their order is always the same."""
    tl.atomic_add(pointer, value, sem="relaxed", scope="cta")


@part
def add_matrix(pointer, rows, columns, value, WIDTH: tl.constexpr):
    """Add a block to a part of a matrix that has ``WIDTH`` columns in memory."""
    add_to(pointer + rows[:, None] * WIDTH + columns[None, :], value)


@part
def through_norm(
    dz, h, fires, scale_ptr, moments_ptr, totals_ptr, sums_ptr, u,
    NORM: tl.constexpr, HIDDEN: tl.constexpr, HP: tl.constexpr, MEASURE: tl.constexpr,
):  # fmt: skip
    """Take the gradient ``(cells, HP)`` back through the norm; adds up those of its weights.

    A batch norm needs the sums of ``dz`` and of ``dz`` times the normalised values over all cells
    that fire. With MEASURE they are added up, else ``totals_ptr`` has their means.
    """
    dh = dz
    if NORM == "rms":
        r = root_mean_square(h, HIDDEN)[:, None]
        add_to(sums_ptr + u, tl.sum(dz * h * r, 0))
        scaled = dz * tl.load(scale_ptr + u)[None, :]
        along = tl.sum(h * scaled, 1)[:, None] / HIDDEN
        dh = r * scaled - h * (r * r * r * along)
    elif NORM == "batch":
        inverse = tl.load(moments_ptr + HP + u)
        xh = (h - tl.load(moments_ptr + u)[None, :]) * inverse[None, :]
        if MEASURE:
            add_to(sums_ptr + u, tl.sum(dz * xh, 0))
            add_to(sums_ptr + HP + u, tl.sum(dz, 0))
        else:
            means = tl.load(totals_ptr + HP + u)[None, :] + xh * tl.load(totals_ptr + u)[None, :]
            gain = (inverse * tl.load(scale_ptr + u))[None, :]
            dh = tl.where(fires[:, None], gain * (dz - means), 0.0)
    return dh


@part
def back_filter(
    x_ptr, filter_ptr, grad_ptr, dseen, i0, i1, i2, live, n0, n1, n2,
    K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, CS: tl.constexpr, CP: tl.constexpr,
    FP: tl.constexpr, CONV: tl.constexpr, PADDING: tl.constexpr, NEAR: tl.constexpr,
    PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Add up the gradient of a filter; returns what the filter gave, ``(cells, FP)``."""
    c, f = tl.arange(0, CP), tl.arange(0, FP)
    seen = tl.full([i0.shape[0], FP], 0.0, ACC)
    for d0 in range(K0):
        j0, in0 = row_of(i0, d0, n0, live, K0, PADDING, NEAR)
        for d1 in range(K1):
            j1, in1 = row_of(i1, d1, n1, in0, K1, PADDING, NEAR)
            row = (j0 * n1 + j1) * n2
            for d2 in range(K2):
                tap = (d0 * K1 + d1) * K2 + d2
                j2, inside = row_of(i2, d2, n2, in1, K2, PADDING, NEAR)
                x = values(x_ptr, row + j2, c, inside, CS).to(ACC)
                if CONV:
                    w = matrix(filter_ptr + tap * CP * FP, c, f, FP)
                    seen += product(x, w, PRECISION)
                    dw = product(tl.trans(x), dseen, PRECISION)
                    add_matrix(grad_ptr + tap * CP * FP, c, f, dw, FP)
                else:
                    seen += x * tl.load(filter_ptr + tap * CP + c)[None, :]
                    add_to(grad_ptr + tap * CP + c, tl.sum(x * dseen, 0))
    return seen


@part
def rule_of_tile(
    x_ptr, g_ptr, base_ptr, seen_ptr, sums_ptr, totals_ptr, filters_ptr, w0_ptr, w1_ptr,
    scale_ptr, shift_ptr, moments_ptr, cell, i0, i1, i2, live, fires, n0, n1, n2,
    K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr,
    CS: tl.constexpr, GS: tl.constexpr, CP: tl.constexpr, FP: tl.constexpr, HP: tl.constexpr,
    IMAGE: tl.constexpr, HIDDEN: tl.constexpr, FILTERS: tl.constexpr, CONV: tl.constexpr,
    PADDING: tl.constexpr, NEAR: tl.constexpr, NORM: tl.constexpr, ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr, ACC: tl.constexpr, MEASURE: tl.constexpr,
):  # fmt: skip
    """The gradient of one tile, from the state after the step to features and the own state.

    A row of ``sums_ptr`` has the gradients of filters, first matrix with its bias, second matrix,
    scale and shift, one after the other; with MEASURE it has those of scale and shift alone.
    """
    c, f, u = tl.arange(0, CP), tl.arange(0, FP), tl.arange(0, HP)
    TAPS: tl.constexpr = K0 * K1 * K2
    W0: tl.constexpr = TAPS * CP * FP if CONV else FILTERS * TAPS * CP
    BIAS: tl.constexpr = W0 + (CP + FILTERS * FP) * HP
    W1: tl.constexpr = BIAS + HP
    own = values(x_ptr, cell, c, live, CS).to(ACC)
    h = hidden(
        x_ptr, own, filters_ptr, w0_ptr, i0, i1, i2, live, n0, n1, n2,
        K0, K1, K2, CS, CP, FP, HP, FILTERS, CONV, PADDING, NEAR, PRECISION, ACC,
    )  # fmt: skip
    z = normalised(h, scale_ptr, shift_ptr, moments_ptr, NORM, HIDDEN, HP)
    g = values(g_ptr, cell, c, live, GS).to(ACC)
    d = tl.where(fires[:, None] & (c >= IMAGE)[None, :], g, 0.0)
    back = tl.load(w1_ptr + u[None, :] * CP + c[:, None])
    dz = product(d, back, PRECISION) * slope(z, ACTIVATION)
    if not MEASURE:
        dw1 = product(tl.trans(activated(z, ACTIVATION)), d, PRECISION)
        add_matrix(sums_ptr + W1, u, c, dw1, CP)
    SCALE: tl.constexpr = 0 if MEASURE else W1 + HP * CP
    dh = through_norm(
        dz, h, fires, scale_ptr, moments_ptr, totals_ptr, sums_ptr + SCALE, u,
        NORM, HIDDEN, HP, MEASURE,
    )  # fmt: skip
    if not MEASURE:
        add_to(sums_ptr + BIAS + u, tl.sum(dh, 0))
        add_matrix(sums_ptr + W0, c, u, product(tl.trans(own), dh, PRECISION), HP)
        back = tl.load(w0_ptr + c[None, :] * HP + u[:, None])
        there = live[:, None] & (c < GS)[None, :]
        where = cell[:, None] * GS + c[None, :]
        tl.store(base_ptr + where, g + product(dh, back, PRECISION), mask=there)
        for number in tl.static_range(FILTERS):
            w0 = CP + number * FP
            back = tl.load(w0_ptr + (w0 + f[None, :]) * HP + u[:, None])
            dseen = product(dh, back, PRECISION)
            where = cell[:, None] * (FILTERS * FP) + (number * FP + f)[None, :]
            tl.store(seen_ptr + where, dseen, mask=live[:, None])
            seen = back_filter(
                x_ptr, filters_ptr + number * TAPS * CP, sums_ptr + number * TAPS * CP, dseen,
                i0, i1, i2, live, n0, n1, n2,
                K0, K1, K2, CS, CP, FP, CONV, PADDING, NEAR, PRECISION, ACC,
            )  # fmt: skip
            dw0 = product(tl.trans(seen), dh, PRECISION)
            add_matrix(sums_ptr + W0 + w0 * HP, f, u, dw0, HP)


def _back_rule(
    x_ptr, g_ptr, base_ptr, seen_ptr, sums_ptr, totals_ptr, filters_ptr, w0_ptr, w1_ptr,
    scale_ptr, shift_ptr, moments_ptr, seeds_ptr, awake_ptr,
    n0, n1, n2, m1, m2, o0, o1, o2, key, level, tiles, all_tiles, row,
    T0: tl.constexpr, T1: tl.constexpr, T2: tl.constexpr,
    K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr,
    CS: tl.constexpr, GS: tl.constexpr, CP: tl.constexpr, FP: tl.constexpr, HP: tl.constexpr,
    IMAGE: tl.constexpr, HIDDEN: tl.constexpr, FILTERS: tl.constexpr, CONV: tl.constexpr,
    PADDING: tl.constexpr, NEAR: tl.constexpr, NORM: tl.constexpr, ACTIVATION: tl.constexpr,
    DIMS: tl.constexpr, EVERY: tl.constexpr, AWAKE: tl.constexpr, PRECISION: tl.constexpr,
    ACC: tl.constexpr, WIDE: tl.constexpr, MEASURE: tl.constexpr,
):  # fmt: skip
    """The gradient of a step, but for what comes back through the filters.

    Each program takes every n-th tile of the batch and adds the gradients of the weights to its own
    row of ``row`` numbers. The order of sums depends on the sizes alone.
    """
    sums_ptr += tl.program_id(0) * row
    for number in range(tl.program_id(0), all_tiles, tl.num_programs(0)):
        sample = number // tiles
        i0, i1, i2 = tile_cells(number % tiles, m1, m2, T0, T1, T2)
        live = (i0 < n0) & (i1 < n1) & (i2 < n2)
        if WIDE:
            w0 = i0.to(tl.int64)
            before = sample.to(tl.int64) * n0 * n1 * n2
        else:
            w0 = i0
            before = sample * n0 * n1 * n2
        cell = (w0 * n1 + i1) * n2 + i2
        fires = firing(
            live, sample, before + cell, i0, i1, i2, o0, o1, o2, seeds_ptr, awake_ptr, key, level,
            DIMS, EVERY, AWAKE,
        )  # fmt: skip
        rule_of_tile(
            x_ptr + before * CS, g_ptr + before * GS, base_ptr + before * GS,
            seen_ptr + before * FILTERS * FP, sums_ptr, totals_ptr, filters_ptr, w0_ptr, w1_ptr,
            scale_ptr, shift_ptr, moments_ptr, cell, w0, i1, i2, live, fires, n0, n1, n2,
            K0, K1, K2, CS, GS, CP, FP, HP, IMAGE, HIDDEN, FILTERS, CONV, PADDING, NEAR, NORM,
            ACTIVATION, PRECISION, ACC, MEASURE,
        )  # fmt: skip


def _back_perception(
    seen_ptr, base_ptr, out_ptr, filters_ptr, n0, n1, n2, m1, m2, r0, r1, r2,
    T0: tl.constexpr, T1: tl.constexpr, T2: tl.constexpr,
    K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, GS: tl.constexpr, CP: tl.constexpr,
    FP: tl.constexpr, FILTERS: tl.constexpr, CONV: tl.constexpr, PRECISION: tl.constexpr,
    ACC: tl.constexpr, WIDE: tl.constexpr, FOLD: tl.constexpr,
):  # fmt: skip
    """What a cell gets back from the cells that see it, on the grid (tiles, samples).

    With FOLD the positions are those of the grid padded by ``r0``, ``r1`` and ``r2``, and only the
    part through the filters is written; else ``base_ptr`` is added.
    """
    sample = tl.program_id(1)
    i0, i1, i2 = tile_cells(tl.program_id(0), m1, m2, T0, T1, T2)
    if WIDE:
        i0 = i0.to(tl.int64)
        sample = sample.to(tl.int64)
    e0, e1, e2 = n0 + 2 * r0, n1 + 2 * r1, n2 + 2 * r2
    live = (i0 < e0) & (i1 < e1) & (i2 < e2)
    c, f = tl.arange(0, CP), tl.arange(0, FP)
    seen_ptr += sample * n0 * n1 * n2 * FILTERS * FP
    where = ((sample * e0 + i0) * e1 + i1) * e2 + i2
    there = live[:, None] & (c < GS)[None, :]
    at = where[:, None] * GS + c[None, :]
    if FOLD:
        sums = tl.full([T0 * T1 * T2, CP], 0.0, ACC)
    else:
        sums = tl.load(base_ptr + at, mask=there, other=0.0)
    for d0 in range(K0):
        j0, in0 = row_of(i0 - r0, K0 - 1 - d0, n0, live, K0, "zero", True)
        for d1 in range(K1):
            j1, in1 = row_of(i1 - r1, K1 - 1 - d1, n1, in0, K1, "zero", True)
            for d2 in range(K2):
                j2, inside = row_of(i2 - r2, K2 - 1 - d2, n2, in1, K2, "zero", True)
                cell = (j0 * n1 + j1) * n2 + j2
                tap = (d0 * K1 + d1) * K2 + d2
                for number in tl.static_range(FILTERS):
                    dseen = values(seen_ptr, cell, number * FP + f, inside, FILTERS * FP)
                    if CONV:
                        back = tl.load(filters_ptr + (tap * CP + c[None, :]) * FP + f[:, None])
                        sums += product(dseen, back, PRECISION)
                    else:
                        w = filters_ptr + (number * K0 * K1 * K2 + tap) * CP + c
                        sums += dseen * tl.load(w)[None, :]
    tl.store(out_ptr + at, sums, mask=there)


def _fold(
    padded_ptr, base_ptr, out_ptr, places0_ptr, places1_ptr, places2_ptr,
    n0, n1, n2, m1, m2, p0, p1, p2, l0, l1, l2,
    T0: tl.constexpr, T1: tl.constexpr, T2: tl.constexpr, GS: tl.constexpr, CP: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Add to each cell what all positions of the padded grid got that copy it.

    ``places`` has for each cell of an axis ``l`` positions on the axis of ``p`` positions, -1 where
    there are fewer.
    """
    sample = tl.program_id(1)
    i0, i1, i2 = tile_cells(tl.program_id(0), m1, m2, T0, T1, T2)
    if WIDE:
        sample = sample.to(tl.int64)
    live = (i0 < n0) & (i1 < n1) & (i2 < n2)
    c = tl.arange(0, CP)
    at = (((sample * n0 + i0) * n1 + i1) * n2 + i2)[:, None] * GS + c[None, :]
    there = live[:, None] & (c < GS)[None, :]
    sums = tl.load(base_ptr + at, mask=there, other=0.0)
    for a in range(l0 * l1 * l2):
        j0 = tl.load(places0_ptr + i0 * l0 + a // (l1 * l2), mask=live, other=-1)
        j1 = tl.load(places1_ptr + i1 * l1 + a // l2 % l1, mask=live, other=-1)
        j2 = tl.load(places2_ptr + i2 * l2 + a % l2, mask=live, other=-1)
        inside = (j0 >= 0) & (j1 >= 0) & (j2 >= 0)
        cell = ((sample * p0 + j0) * p1 + j1) * p2 + j2
        sums += values(padded_ptr, cell, c, inside, GS)
    tl.store(out_ptr + at, sums, mask=there)


back_rule = kernel(_back_rule, RUNTIME)
back_perception = kernel(_back_perception, RUNTIME)
fold = kernel(_fold, RUNTIME)
