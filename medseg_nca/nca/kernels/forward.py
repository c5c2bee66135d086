"""One step of the automaton, slab by slab."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from medseg_nca.nca.fire import MUL_A, MUL_B
from medseg_nca.nca.kernels.block import Flat, lanes_of, update_block
from medseg_nca.nca.kernels.jit import compiled, entry
from medseg_nca.nca.kernels.layout import Buffers, Grid
from medseg_nca.nca.kernels.moments import folded, measure_block, total_moments
from medseg_nca.nca.kernels.rule import Rule
from medseg_nca.nca.kernels.simd import claim, copy_vector, draw
from medseg_nca.nca.kernels.team import meet
from medseg_nca.nca.kernels.vectors import BLOCK, lanes

_MASK = np.uint64(0xFFFFFFFF)
_SIGN = np.uint64(0x80000000)
_MUL_A, _MUL_B = np.uint64(MUL_A), np.uint64(MUL_B)
_15, _16 = np.uint64(15), np.uint64(16)
LANES = lanes(4)


class Firing(NamedTuple):
    """The fire mask for the compiled loops; see :mod:`medseg_nca.nca.fire`.

    Attributes:
        every: whether all cells fire; then the rest is not read.
        positions: hash of each cell's position, uint32.
        keys: one for each step, uint64.
        level: a cell fires if its number is below this.
        awake: 1 for each cell that may fire, uint8; empty if all may.
        rows: 1 for each row of the grid that has such a cell; empty if all may.
    """

    every: bool
    positions: np.ndarray[Any, Any]
    keys: np.ndarray[Any, Any]
    level: int
    awake: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any]


@compiled
def fires(position: int, key: Any, level: Any) -> bool:
    """Whether the cell of this position hash fires in the step of this key."""
    x = np.uint64(position) ^ key
    x = ((x ^ (x >> _16)) * _MUL_A) & _MASK
    x = ((x ^ (x >> _15)) * _MUL_B) & _MASK
    return bool(((x ^ (x >> _16)) ^ _SIGN) < level)


@compiled
def collect(bases: Flat, n: int, base: int, cell: int, key: Any, grid: Grid, firing: Firing) -> int:
    """Append the offsets of the cells that fire in one row of the grid to ``bases[:n]``."""
    step, count = grid.channels, grid.n2
    level = np.uint64(firing.level)
    if len(firing.awake):
        for z in range(count):
            bases[n] = base + z * step
            awake = firing.awake[cell + z] != 0
            n += awake and (firing.every or fires(firing.positions[cell + z], key, level))
        return n
    if firing.every:
        for z in range(count):
            bases[n + z] = base + z * step
        return n + count
    whole = count - count % LANES
    for z in range(0, whole, LANES):
        n = draw(firing.positions, cell + z, key, level, bases, n, base + z * step, step)
    for z in range(whole, count):
        bases[n] = base + z * step
        n += fires(firing.positions[cell + z], key, level)
    return n


@compiled
def fill(bases: Flat, n: int) -> None:
    """Let the rest of a block name the last cell, so that whole tiles may be read."""
    for i in range(n, BLOCK):
        bases[i] = bases[n - 1]


@compiled
def _block(
    src: Flat, dst: Flat, n: int, grid: Grid, rule: Rule, buffers: Buffers, measured: Flat
) -> None:
    if len(measured):
        measure_block(src, n, grid, rule, buffers, measured)
    else:
        update_block(src, dst, n, grid, rule, buffers)


@compiled
def _slab(
    src: Flat, dst: Flat, job: int, key: Any, grid: Grid, rule: Rule, firing: Firing,
    buffers: Buffers, measured: Flat,
) -> None:  # fmt: skip
    """Bring a slab from ``src`` to ``dst``; or only measure it, where there are moments to fill."""
    moving = len(measured) == 0
    first, position, begin, end = grid.jobs[job]
    bases = buffers.bases
    length = grid.n2 * grid.channels
    width = lanes_of(src)
    n = 0
    for a in range(begin, end):
        for b in range(grid.n1):
            cell = position + (a * grid.n1 + b) * grid.n2
            if len(firing.rows) and firing.rows[cell // grid.n2] == 0:
                continue  # it is the same in all states
            base = first + a * grid.stride0 + b * grid.stride1
            if moving:
                for i in range(base, base + length, width):
                    copy_vector(src, i, dst, i)
            n = collect(bases, n, base, cell, key, grid, firing)
            while n >= BLOCK:
                _block(src, dst, BLOCK, grid, rule, buffers, measured)
                n -= BLOCK
                for i in range(n):
                    bases[i] = bases[BLOCK + i]
    if n:
        fill(bases, n)
        _block(src, dst, n, grid, rule, buffers, measured)
    if not moving:
        return
    for i in range(grid.halo_first[job], grid.halo_first[job + 1]):
        to, origin = grid.halo_to[i], grid.halo_from[i]
        for c in range(0, grid.channels, width):
            copy_vector(dst, origin + c, dst, to + c)


@entry
def roll_slabs(
    states: Flat, size: int, first: int, steps: int, meeting: Flat, team: int, grid: Grid,
    rule: Rule, firing: Firing, buffers: Buffers, moments: Flat, history: Flat,
) -> int:  # fmt: skip
    """Compute ``steps`` steps from number ``first`` on, as one thread of a team.

    Args:
        states: several padded states of ``size`` elements; step n reads number n and writes number
            n + 1, in a circle.
        size: see there.
        first: number of the first step.
        steps: how many.
        meeting: zeros, two for each step and one more; see :func:`meet`.
        team: number of threads.
        grid: geometry.
        rule: the cell's weights.
        firing: the fire mask.
        buffers: this thread's scratch memory.
        moments: for all threads, float64, a row for each job; used with batch norm.
        history: the moments of all cells in each step, written; every thread writes the same.

    Returns:
        The first step at which this thread wrote a value that is not finite, or -1.
    """
    count, bad, point = len(states) // size, -1, 0
    nothing = moments[0, :0]
    for step in range(first, first + steps):
        start, end = (step % count) * size, ((step + 1) % count) * size
        src, dst = states[start : start + size], states[end : end + size]
        key = firing.keys[step] if len(firing.keys) else np.uint64(0)
        now = rule
        if rule.batch:
            point += 1
            while True:
                job = claim(meeting, point)
                if job >= len(grid.jobs):
                    break
                moments[job, :] = 0
                _slab(src, dst, job, key, grid, rule, firing, buffers, moments[job])
            meet(meeting, team, point)
            total_moments(moments, buffers.moments, rule.hidden)
            history[step, :] = buffers.moments
            now = folded(rule, grid, buffers)
        point += 1
        while True:
            job = claim(meeting, point)
            if job >= len(grid.jobs):
                break
            _slab(src, dst, job, key, grid, now, firing, buffers, nothing)
        total = buffers.health.dtype.type(0)
        for c in range(len(buffers.health)):
            total += buffers.health[c]
            buffers.health[c] = 0
        if total != 0 and bad < 0:
            bad = step
        meet(meeting, team, point)
    return bad


@entry
def load_slabs(state: Flat, own: int, dst: Flat, meeting: Flat, grid: Grid) -> None:
    """Copy cells whose channels lie apart into a padded state, as one thread of several.

    Args:
        state: ``(B, own, n0, n1, n2)``, contiguous.
        own: number of true channels.
        dst: the padded state.
        meeting: one zero.
        grid: geometry.
    """
    step = grid.channels
    while True:
        job = claim(meeting, 0)
        if job >= len(grid.jobs):
            break
        first, position, begin, end = grid.jobs[job]
        sample = position // grid.cells
        for a in range(begin, end):
            for b in range(grid.n1):
                base = first + a * grid.stride0 + b * grid.stride1
                row = (a * grid.n1 + b) * grid.n2
                for c in range(own):
                    at = (sample * own + c) * grid.cells + row
                    for z in range(grid.n2):
                        dst[base + z * step + c] = state[at + z]
