"""Batch norm: mean and variance of each hidden unit over all cells that fire, before a step.

A step with batch norm goes over the grid twice. The first time only measures; then the norm is put
into the first matrix, and the second time is a step without a norm. Means and squared deviations of
blocks are merged in float64 (Chan, Golub and LeVeque 1979), job after job in a fixed order, so that
the result does not depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np

from medseg_nca.nca.kernels.block import Flat, perceive, product
from medseg_nca.nca.kernels.jit import compiled
from medseg_nca.nca.kernels.layout import Buffers, Grid
from medseg_nca.nca.kernels.rule import Rule
from medseg_nca.nca.update import EPS


@compiled
def measure_block(
    src: Flat, n: int, grid: Grid, rule: Rule, buffers: Buffers, moments: Flat
) -> None:
    """Add the hidden values of the ``n`` cells at ``buffers.bases`` to the moments of a job.

    Args:
        src: the state.
        n: number of cells.
        grid: geometry.
        rule: the cell's weights.
        buffers: scratch memory.
        moments: float64, ``(1 + 2 * hidden,)``: how many, means, sums of squared deviations of a
            job.
    """
    units = rule.hidden
    perceive(src, n, grid, rule, buffers)
    product(buffers.rows, 0, rule.row, 1, rule.w0, 0, units,
            buffers.hidden, 0, units, n, units, grid.channels + rule.features + 1)  # fmt: skip
    hidden, mean, squares = buffers.hidden, buffers.mean, buffers.squares
    mean[:] = 0
    squares[:] = 0
    for i in range(n):
        for h in range(units):
            mean[h] += hidden[i * units + h]
    for h in range(units):
        mean[h] /= n
    for i in range(n):
        for h in range(units):
            off = hidden[i * units + h] - mean[h]
            squares[h] += off * off
    _merge(moments, n, mean, squares, units)


@compiled
def _merge(moments: Flat, n: float, mean: Flat, squares: Flat, units: int) -> None:
    """Add ``n`` more values, of which mean and squared deviations are given."""
    before = moments[0]
    total = before + n
    moments[0] = total
    for h in range(units):
        off = np.float64(mean[h]) - moments[1 + h]
        moments[1 + h] += off * n / total
        moments[1 + units + h] += np.float64(squares[h]) + off * off * before * n / total


@compiled
def folded(rule: Rule, grid: Grid, buffers: Buffers) -> Rule:
    """The rule of one step, without a norm: ``scale * (h - mean) / sd + shift`` is in its matrix.

    Args:
        rule: the cell's weights.
        grid: geometry.
        buffers: holds the moments of all cells that fire in the step; the matrix is put there.
    """
    units, moments = rule.hidden, buffers.moments
    last = grid.channels + rule.features
    w0 = buffers.folded
    for h in range(units):
        variance = moments[1 + units + h] / max(moments[0], 1.0)
        factor = rule.scale[h] / math.sqrt(variance + EPS)
        for k in range(last):
            w0[k * units + h] = rule.w0[k * units + h] * factor
        bias = rule.w0[last * units + h] - moments[1 + h]
        w0[last * units + h] = bias * factor + rule.shift[h]
    return Rule(
        rule.filters, w0, rule.w1, buffers.ones, buffers.zeros, rule.filters_back, rule.w0_back,
        rule.w1_back, rule.convolution, rule.filter_count, rule.features, rule.hidden, rule.units,
        rule.row, rule.norm, False, rule.activation,
    )  # fmt: skip


@compiled
def total_moments(moments: Flat, total: Flat, units: int) -> None:
    """Merge the moments of all jobs, a row each, in their order."""
    total[:] = 0
    for job in range(len(moments)):
        if moments[job, 0] > 0:
            _merge(total, moments[job, 0], moments[job, 1 : 1 + units],
                   moments[job, 1 + units :], units)  # fmt: skip
