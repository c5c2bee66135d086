"""The backward pass of one step: recompute what the cells that fired did, and take it back.

With ``x' = x + M W1 act(norm(W0 [x, K x, 1]))`` the gradient of ``x`` is that of ``x'`` plus what
comes back through the rule of the cells that fired. Slabs scatter into their neighbours, so the
even ones run first, then the odd ones.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from medseg_nca.nca.kernels import simd
from medseg_nca.nca.kernels.block import (
    GELU,
    LEAKY_RELU,
    RELU,
    SLOPE,
    Flat,
    add_product,
    apply_activation,
    hidden_values,
    lanes_of,
    perceive,
    product,
)
from medseg_nca.nca.kernels.forward import Firing, collect, fill
from medseg_nca.nca.kernels.jit import compiled, entry, reordering
from medseg_nca.nca.kernels.layout import Buffers, Grid
from medseg_nca.nca.kernels.rule import Rule
from medseg_nca.nca.kernels.simd import claim, copy_vector
from medseg_nca.nca.kernels.team import meet
from medseg_nca.nca.kernels.vectors import BLOCK, SCATTER_ROWS
from medseg_nca.nca.update import EPS


class Sums(NamedTuple):
    """Gradients of the packed weights: one row for each job, added up at the end."""

    filters: np.ndarray[Any, Any]
    w0: np.ndarray[Any, Any]
    w1: np.ndarray[Any, Any]
    scale: np.ndarray[Any, Any]
    shift: np.ndarray[Any, Any]


@compiled
def _activation_back(hidden: Flat, grad: Flat, n: int, rule: Rule) -> None:
    """Turn the gradient of the activations into that of ``scale * hidden + shift``, in place."""
    zero, width, scale, shift = grad.dtype.type(0), rule.hidden, rule.scale, rule.shift
    if rule.activation == RELU:
        for i in range(n):
            for h in range(width):
                at = i * width + h
                grad[at] = zero if hidden[at] * scale[h] + shift[h] <= zero else grad[at]
        return
    for i in range(n):
        for h in range(width):
            x = hidden[i * width + h] * scale[h] + shift[h]
            if rule.activation == LEAKY_RELU:
                slope = SLOPE if x <= 0 else 1.0
            elif rule.activation == GELU:
                density = math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
                slope = 0.5 * (1.0 + math.erf(x * math.sqrt(0.5))) + x * density
            else:
                sigmoid = 1.0 / (1.0 + math.exp(-x))
                slope = sigmoid * (1.0 + x * (1.0 - sigmoid))
            grad[i * width + h] *= slope


@reordering
def _norm_back(hidden: Flat, grad: Flat, inverse: Flat, sums: Flat, n: int, rule: Rule) -> None:
    """From the gradient of ``scale * hidden`` to that of the values before the norm, in place."""
    units, scale = grad.dtype.type(rule.units), rule.scale
    for i in range(n):
        start = i * rule.hidden
        inner = grad.dtype.type(0)
        for h in range(rule.hidden):
            inner += grad[start + h] * scale[h] * hidden[start + h]
        inner /= units
        for h in range(rule.hidden):
            sums[h] += grad[start + h] * hidden[start + h]
            grad[start + h] = inverse[i] * (grad[start + h] * scale[h] - hidden[start + h] * inner)


@compiled
def _batch_back(hidden: Flat, grad: Flat, n: int, rule: Rule, buffers: Buffers) -> None:
    """The same for a batch norm; ``buffers.moments`` holds the means over all cells that fired.

    They are those of the gradient, and of the gradient times the standardised value.
    """
    width, means = rule.hidden, buffers.moments
    for i in range(n):
        for h in range(width):
            at = i * width + h
            inner = grad[at] - means[1 + h] - hidden[at] * means[1 + width + h]
            grad[at] = buffers.squares[h] * rule.scale[h] * inner


@compiled
def _sum_block(
    src: Flat, grad_after: Flat, n: int, grid: Grid, rule: Rule, buffers: Buffers, sums: Flat
) -> None:
    """Add the gradients of a batch norm's shift and scale to ``sums``, ``(1 + 2 * hidden,)``."""
    width = rule.hidden
    _activation_grad(src, grad_after, n, grid, rule, buffers)
    hidden, grad = buffers.hidden, buffers.active
    for i in range(n):
        for h in range(width):
            at = i * width + h
            sums[1 + h] += grad[at]
            sums[1 + width + h] += grad[at] * hidden[at]


@compiled
def _activation_grad(
    src: Flat, grad_after: Flat, n: int, grid: Grid, rule: Rule, buffers: Buffers
) -> None:
    """Fill ``hidden`` again, and ``active`` with the gradient of ``scale * hidden + shift``."""
    channels, width = grid.channels, lanes_of(src)
    perceive(src, n, grid, rule, buffers)
    hidden_values(n, grid, rule, buffers)
    for i in range(n):
        for c in range(0, channels, width):
            copy_vector(grad_after, buffers.bases[i] + c, buffers.change, i * channels + c)
    product(buffers.change, 0, channels, 1, rule.w1_back, 0, rule.hidden,
            buffers.active, 0, rule.hidden, n, rule.hidden, channels)  # fmt: skip
    _activation_back(buffers.hidden, buffers.active, n, rule)


@compiled
def _scatter(
    src: Flat, grad: Flat, n: int, grid: Grid, rule: Rule, buffers: Buffers, sums: Flat
) -> None:
    """Give the gradient of the perceived rows back to the cells, their neighbours, the filters."""
    channels, row, taps = grid.channels, rule.row, len(grid.offsets)
    bases, rows = buffers.bases, buffers.rows_grad
    width = lanes_of(rows)
    for c in range(0, channels, width):
        for i in range(n):
            simd.add_row(rows, i * row + c, row, grad, bases, i, c, buffers.health)
    if rule.convolution:
        size = taps * channels
        product(rows, channels, row, 1, rule.filters_back, 0, size,
                buffers.patch_grad, 0, size, n, size, rule.features)  # fmt: skip
        add_product(buffers.patch, 0, 1, size, rows, channels, row,
                    sums, 0, rule.features, size, rule.features, n)  # fmt: skip
        for i in range(n):
            for t in range(taps):
                to, at = bases[i] + grid.offsets[t], i * size + t * channels
                for c in range(channels):
                    grad[to + c] += buffers.patch_grad[at + c]
        return
    for i in range(n * row, (n + SCATTER_ROWS) * row):
        rows[i] = 0
    whole = channels - channels % (2 * width)
    for f in range(rule.filter_count):
        first, start = f * taps * channels, (f + 1) * channels
        for i in range(0, n, SCATTER_ROWS):
            for c in range(0, whole, 2 * width):
                simd.scatter_wide(src, grad, bases, i, c, grid.offsets, taps, rule.filters, sums,
                                  first + c, channels, rows, i * row + start + c, row)  # fmt: skip
            if whole < channels:
                simd.scatter_narrow(src, grad, bases, i, whole, grid.offsets, taps, rule.filters,
                                    sums, first + whole, channels, rows, i * row + start + whole,
                                    row)  # fmt: skip


@compiled
def _block(
    src: Flat, grad_after: Flat, grad: Flat, n: int, grid: Grid, rule: Rule, buffers: Buffers,
    filters_sum: Flat, w0_sum: Flat, w1_sum: Flat, scale_sum: Flat,
) -> None:  # fmt: skip
    channels, width = grid.channels, lanes_of(src)
    inputs = channels + rule.features
    change, active = buffers.change, buffers.active
    perceive(src, n, grid, rule, buffers)
    hidden_values(n, grid, rule, buffers)
    apply_activation(buffers.hidden, active, n, rule)
    for i in range(n):
        for c in range(0, channels, width):
            copy_vector(grad_after, buffers.bases[i] + c, change, i * channels + c)
    add_product(active, 0, 1, rule.hidden, change, 0, channels,
                w1_sum, 0, channels, rule.hidden, channels, n)  # fmt: skip
    product(change, 0, channels, 1, rule.w1_back, 0, rule.hidden,
            active, 0, rule.hidden, n, rule.hidden, channels)  # fmt: skip
    _activation_back(buffers.hidden, active, n, rule)
    if rule.norm:
        _norm_back(buffers.hidden, active, buffers.inverse, scale_sum, n, rule)
    if rule.batch:
        _batch_back(buffers.hidden, active, n, rule, buffers)
    add_product(buffers.rows, 0, 1, rule.row, active, 0, rule.hidden,
                w0_sum, 0, rule.hidden, inputs + 1, rule.hidden, n)  # fmt: skip
    product(active, 0, rule.hidden, 1, rule.w0_back, 0, inputs,
            buffers.rows_grad, 0, rule.row, n, inputs, rule.hidden)  # fmt: skip
    _scatter(src, grad, n, grid, rule, buffers, filters_sum)


@compiled
def _slab(
    src: Flat, grad_after: Flat, grad: Flat, job: int, key: Any, grid: Grid, rule: Rule,
    firing: Firing, buffers: Buffers, sums: Sums, summed: Flat,
) -> None:  # fmt: skip
    """Take back a slab; or only sum the gradients of a batch norm, where there is room for them."""
    first, position, begin, end = grid.jobs[job]
    bases = buffers.bases
    filters, w0, w1, scale = sums.filters[job], sums.w0[job], sums.w1[job], sums.scale[job]
    n = 0
    for a in range(begin, end):
        for b in range(grid.n1):
            base = first + a * grid.stride0 + b * grid.stride1
            cell = position + (a * grid.n1 + b) * grid.n2
            n = collect(bases, n, base, cell, key, grid, firing)
            while n >= BLOCK:
                if len(summed):
                    _sum_block(src, grad_after, BLOCK, grid, rule, buffers, summed)
                else:
                    _block(src, grad_after, grad, BLOCK, grid, rule, buffers,
                           filters, w0, w1, scale)  # fmt: skip
                n -= BLOCK
                for i in range(n):
                    bases[i] = bases[BLOCK + i]
    if n:
        fill(bases, n)
        if len(summed):
            _sum_block(src, grad_after, n, grid, rule, buffers, summed)
        else:
            _block(src, grad_after, grad, n, grid, rule, buffers, filters, w0, w1, scale)


@compiled
def _fold(grad_after: Flat, grad: Flat, job: int, grid: Grid) -> None:
    """Add the gradient of halo cells to the cells that they copy, and start ``grad`` from that."""
    width, length = lanes_of(grad), grid.n2 * grid.channels
    for i in range(grid.halo_first[job], grid.halo_first[job + 1]):
        halo, cell = grid.halo_to[i], grid.halo_from[i]
        for c in range(grid.channels):
            grad_after[cell + c] += grad_after[halo + c]
            grad[halo + c] = 0
    first, _, begin, end = grid.jobs[job]
    for a in range(begin, end):
        for b in range(grid.n1):
            base = first + a * grid.stride0 + b * grid.stride1
            for i in range(base, base + length, width):
                copy_vector(grad_after, i, grad, i)


@compiled
def _know(moments: Flat, rule: Rule, buffers: Buffers) -> None:
    """Let ``hidden_values`` standardise as the step did."""
    for h in range(rule.hidden):
        variance = moments[1 + rule.hidden + h] / max(moments[0], 1.0)
        buffers.mean[h] = moments[1 + h]
        buffers.squares[h] = 1.0 / math.sqrt(variance + EPS)


@compiled
def _mean_of(sums: Flat, count: float, buffers: Buffers) -> None:
    """The sums of all jobs over the number of cells, into ``buffers.moments``."""
    buffers.moments[:] = 0
    for job in range(len(sums)):
        for i in range(len(buffers.moments)):
            buffers.moments[i] += sums[job, i] / max(count, 1.0)


@entry
def back_slabs(
    states: Flat, grads: Flat, steps: int, middle: int, meeting: Flat, team: int, grid: Grid,
    rule: Rule, firing: Firing, buffers: Buffers, sums: Sums, history: Flat, moments: Flat,
) -> None:  # fmt: skip
    """Take a gradient back through all steps, as one thread of a team.

    Args:
        states: the padded states before each step.
        grads: two padded gradients; the first is that of the last state, and at the end that of
            the first state is number ``(steps + 1) % 2``.
        steps: how many.
        middle: the number of even slabs, which come first.
        meeting: zeros, four for each step and four more; see :func:`meet`.
        team: number of threads.
        grid: geometry.
        rule: the cell's weights.
        firing: the fire mask.
        buffers: this thread's scratch memory.
        sums: gradients of the weights, added to.
        history: of a batch norm, the moments of each step; see ``moments.py``.
        moments: for all threads, room for a row for each job.
    """
    size, jobs = len(grads) // 2, len(grid.jobs)
    point = 0
    nothing = moments[0, :0]
    for back in range(steps + 1):
        step, after, before = steps - 1 - back, back % 2 * size, (back + 1) % 2 * size
        grad_after, grad = grads[after : after + size], grads[before : before + size]
        point += 1
        while True:
            job = claim(meeting, point)
            if job >= jobs:
                break
            _fold(grad_after, grad, job, grid)
        meet(meeting, team, point)
        if step < 0:
            break
        src = states[step * size : (step + 1) * size]
        key = firing.keys[step] if len(firing.keys) else np.uint64(0)
        if rule.batch:
            _know(history[step], rule, buffers)
            point += 1
            while True:
                job = claim(meeting, point)
                if job >= jobs:
                    break
                moments[job, :] = 0
                _slab(src, grad_after, grad, job, key, grid, rule, firing, buffers, sums,
                      moments[job])  # fmt: skip
                for h in range(rule.hidden):
                    sums.shift[job, h] += moments[job, 1 + h]
                    sums.scale[job, h] += moments[job, 1 + rule.hidden + h]
            meet(meeting, team, point)
            _mean_of(moments, history[step, 0], buffers)
        for first, last in ((0, middle), (middle, jobs)):
            point += 1
            while True:
                job = first + claim(meeting, point)
                if job >= last:
                    break
                _slab(src, grad_after, grad, job, key, grid, rule, firing, buffers, sums, nothing)
            meet(meeting, team, point)
