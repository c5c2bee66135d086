"""The kernel of a step."""

from __future__ import annotations

from medseg_nca.nca.gpu.cells import firing, product, stored, tile_cells
from medseg_nca.nca.gpu.language import kernel, part, tl
from medseg_nca.nca.gpu.perceive import activated, hidden, matrix, root_mean_square, values

# Their values differ from call to call and change nothing in the code.
RUNTIME = ("n0", "n1", "n2", "m1", "m2", "o0", "o1", "o2", "key", "level", "step")


@part
def normalised(
    h, scale_ptr, shift_ptr, moments_ptr,
    NORM: tl.constexpr, HIDDEN: tl.constexpr, HP: tl.constexpr,
):  # fmt: skip
    """The hidden values ``(cells, HP)`` after the norm.

    For a batch norm ``moments_ptr`` has the mean of each unit, then one over its deviation.
    """
    u = tl.arange(0, HP)
    z = h
    if NORM == "rms":
        z = h * root_mean_square(h, HIDDEN)[:, None] * tl.load(scale_ptr + u)[None, :]
    elif NORM == "batch":
        gain = tl.load(moments_ptr + HP + u) * tl.load(scale_ptr + u)
        z = (h - tl.load(moments_ptr + u)[None, :]) * gain[None, :]
        z += tl.load(shift_ptr + u)[None, :]
    return z


@part
def store_moments(sums_ptr, row, h, fires, HP: tl.constexpr):
    """Write a row: how many cells fire, and each unit's mean and sum of squared deviations."""
    u = tl.arange(0, HP)
    f = fires[:, None].to(h.dtype)
    count = tl.sum(fires.to(h.dtype), 0)
    mean = tl.sum(h * f, 0) / tl.maximum(count, 1.0)
    off = (h - mean[None, :]) * f
    start = sums_ptr + row.to(tl.int64) * (1 + 2 * HP)
    tl.store(start, count)
    tl.store(start + 1 + u, mean)
    tl.store(start + 1 + HP + u, tl.sum(off * off, 0))


def _step(
    x_ptr, y_ptr, filters_ptr, w0_ptr, w1_ptr, scale_ptr,
    shift_ptr, moments_ptr, sums_ptr, seeds_ptr, awake_ptr, bad_ptr,
    n0, n1, n2, m1, m2, o0, o1, o2,
    key, level, step,
    T0: tl.constexpr, T1: tl.constexpr, T2: tl.constexpr,
    K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr,
    CS: tl.constexpr, CP: tl.constexpr, FP: tl.constexpr, HP: tl.constexpr,
    IMAGE: tl.constexpr, HIDDEN: tl.constexpr, FILTERS: tl.constexpr, CONV: tl.constexpr,
    PADDING: tl.constexpr, NEAR: tl.constexpr, NORM: tl.constexpr, ACTIVATION: tl.constexpr,
    DIMS: tl.constexpr, EVERY: tl.constexpr, AWAKE: tl.constexpr, PRECISION: tl.constexpr,
    ACC: tl.constexpr, WIDE: tl.constexpr, MEASURE: tl.constexpr,
):  # fmt: skip
    """One step of one tile of cells: perception, both products, norm, mask and residual.

    The grid is (tiles, samples). ``bad_ptr`` gets the first step after which a value is NaN or
    infinite. With MEASURE nothing is updated; the moments of a batch norm are written instead.
    """
    sample = tl.program_id(1)
    i0, i1, i2 = tile_cells(tl.program_id(0), m1, m2, T0, T1, T2)
    live = (i0 < n0) & (i1 < n1) & (i2 < n2)
    if WIDE:
        cell = (i0.to(tl.int64) * n1 + i1) * n2 + i2
        before = sample.to(tl.int64) * n0 * n1 * n2
    else:
        cell = (i0 * n1 + i1) * n2 + i2
        before = sample * n0 * n1 * n2
    x_ptr += before * CS
    c = tl.arange(0, CP)
    own = values(x_ptr, cell, c, live, CS).to(ACC)
    h = hidden(
        x_ptr, own, filters_ptr, w0_ptr, i0.to(cell.dtype), i1, i2, live, n0, n1, n2,
        K0, K1, K2, CS, CP, FP, HP, FILTERS, CONV, PADDING, NEAR, PRECISION, ACC,
    )  # fmt: skip
    fires = firing(
        live, sample, before + cell, i0, i1, i2, o0, o1, o2, seeds_ptr, awake_ptr, key, level,
        DIMS, EVERY, AWAKE,
    )  # fmt: skip
    if MEASURE:
        store_moments(sums_ptr, sample * tl.num_programs(0) + tl.program_id(0), h, fires, HP)
    else:
        z = normalised(h, scale_ptr, shift_ptr, moments_ptr, NORM, HIDDEN, HP)
        a = activated(z, ACTIVATION)
        change = product(a, matrix(w1_ptr, tl.arange(0, HP), c, CP), PRECISION)
        y = tl.where(fires[:, None] & (c >= IMAGE)[None, :], own + change, own)
        spoiled = tl.sum(tl.sum(tl.where(y - y == 0, 0, 1), 1), 0)
        if spoiled > 0:
            tl.atomic_min(bad_ptr, step)
        where = y_ptr + before * CS + cell[:, None] * CS + c[None, :]
        tl.store(where, stored(y, y_ptr), mask=live[:, None] & (c < CS)[None, :])


step = kernel(_step, RUNTIME)
