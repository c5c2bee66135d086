"""A roll-out on the compiled loops, and its gradient."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from medseg_nca.errors import NonFiniteStateError
from medseg_nca.nca.cell import Cell
from medseg_nca.nca.fire import Fire
from medseg_nca.nca.kernels.backward import Sums, back_slabs
from medseg_nca.nca.kernels.forward import Firing, load_slabs, roll_slabs
from medseg_nca.nca.kernels.jit import is_ready, kept_in
from medseg_nca.nca.kernels.layout import (
    SLACK,
    Buffers,
    Layout,
    aligned,
    make_buffers,
    make_layout,
    moment_count,
    numbers,
    padded_channels,
)
from medseg_nca.nca.kernels.rule import Packed, Rule, pack, pack_once
from medseg_nca.nca.kernels.team import team_size, together
from medseg_nca.nca.rounding import rounded

logger = logging.getLogger(__name__)
# States of at most so many bytes are kept for the next roll-out.
_SPARE_BYTES = 64e6
_spares = threading.local()


@contextmanager
def _compilation(function: Any) -> Iterator[None]:
    """Tell the user of a compilation, which happens once on a machine."""
    if function.signatures:
        yield
        return
    ready = is_ready(function)
    if not ready:
        logger.info("Compiling the CPU engine: once on this machine, about half a minute.")
    started = time.monotonic()
    yield
    if not ready:
        place = kept_in(function)
        where = f"kept in {place}" if place else "it cannot be kept: set NUMBA_CACHE_DIR"
        logger.info("Compiled in %.0f s; %s.", time.monotonic() - started, where)


class Rollout:
    """One cell on one grid: everything that stays the same from step to step.

    Args:
        cell: perception and update rule.
        state: its ``(B, C, *spatial)``, dtype and size.
        fire: which cells update.
        steps: how many steps.
    """

    def __init__(self, cell: Cell, state: Tensor, fire: Fire, steps: int) -> None:
        self.channels, self.dims, self.steps = cell.channels, cell.dims, steps
        self.stored = state.dtype
        self.dtype = torch.float32 if state.dtype == torch.bfloat16 else state.dtype
        cell = rounded(cell) if state.dtype == torch.bfloat16 else cell
        self.fire = fire
        learning = torch.is_grad_enabled() and any(p.requires_grad for p in cell.parameters())
        self.packed: Packed = (pack if learning else pack_once)(cell, fire.scale, self.dtype)
        self.padding = cell.settings.perception.padding
        self.layout: Layout = make_layout(
            state.shape[0], tuple(state.shape[2:]), cell.radius,
            self.padding, padded_channels(cell.channels, self.dtype),
        )  # fmt: skip
        self.firing = _firing(fire, state, steps)
        awake = self.firing.awake
        cells = int(awake.sum()) if len(awake) else self.layout.cells
        firing_cells = cells * (1.0 if fire.all_cells else fire.rate)
        inputs, hidden = self.packed.w0.shape
        self.operations = firing_cells * 2 * (
            self.packed.filters.numel() + hidden * (inputs + self.layout.grid.channels)
        )  # fmt: skip

    def empty(self, count: int) -> Tensor:
        """Some padded states, zero in the halo."""
        return aligned((count, *self.layout.shape), self.stored)

    @contextmanager
    def spare(self) -> Iterator[Tensor]:
        """Two padded states that this thread uses again and again: fresh memory costs a step.

        Nobody else has them meanwhile, and after an error they are not used again.
        """
        key = (
            self.layout.shape, self.layout.cells, self.dims, self.channels, self.stored,
            self.padding,
        )  # fmt: skip
        kept: dict[Any, Tensor] = _spares.__dict__.setdefault("states", {})
        memory = kept.pop(key, None)
        if memory is None:
            memory = self.empty(2)
        yield memory
        if memory.nbytes <= _SPARE_BYTES:
            kept[key] = memory
            while sum(m.nbytes for m in kept.values()) > _SPARE_BYTES:
                del kept[next(iter(kept))]

    def inside(self, padded: Tensor) -> Tensor:
        """The ``(B, C, *spatial)`` in a padded state; a view."""
        return self.layout.view(padded, self.channels, self.dims)

    def buffers(self, rule: Rule, backward: bool) -> list[Buffers]:
        """Scratch memory for each thread."""
        grid = self.layout.grid
        size = team_size(self.operations * (4 if backward else 1), len(grid.jobs))
        patch = len(grid.offsets) * grid.channels if rule.convolution else 0
        sizes = (grid, rule.row, patch, rule.hidden, self.dtype)
        return [make_buffers(*sizes, backward=backward, batch=rule.batch) for _ in range(size)]

    def copy(self, padded: Tensor) -> Tensor:
        """The ``(B, C, *spatial)`` in a padded state, channels-last in memory of its own."""
        inside = self.inside(padded).movedim(1, -1)
        memory = aligned(inside.shape, self.stored)
        return memory.copy_(inside).movedim(-1, 1)

    def start(self, states: Tensor, state: Tensor) -> None:
        """Write a state into the first of some padded ones, halo included."""
        first, grid = states[0], self.layout.grid
        if state.is_contiguous() and self.channels > 1:
            source, target = numbers(state.detach()), numbers(first)
            counter = np.zeros(1, np.int64)
            together(
                lambda *_: load_slabs(source, self.channels, target, counter, grid),
                team_size(self.operations, len(grid.jobs)),
                counter,
            )
        else:
            self.inside(first).copy_(state)
        if len(grid.halo_to):
            cells = first.view(-1, grid.channels)
            to, origin = (
                torch.from_numpy(a) // grid.channels for a in (grid.halo_to, grid.halo_from)
            )
            cells.index_copy_(0, to, cells.index_select(0, origin))
        # Rows without a cell that is awake are not copied from step to step.
        if len(self.firing.awake):
            states[1:] = first

    def forward(self, states: Tensor, record: Callable[[Tensor], None] | None = None) -> Tensor:
        """Compute all steps; step n reads ``states[n]`` and writes ``states[n + 1]``, in a circle.

        Raises:
            NonFiniteStateError: at the first step after which a value is NaN or infinite.
        """
        chunk = self.steps if record is None else 1
        self.history = self._moments(self.steps)
        for first in range(0, self.steps, chunk):
            self._forward(states, first, chunk)
            if record is not None:
                record(self.inside(states[(first + 1) % len(states)]).clone())
        return states[self.steps % len(states)]

    def _forward(self, states: Tensor, first: int, steps: int) -> None:
        grid = self.layout.grid
        rule = self.packed.rule(grid.channels, backward=False)
        buffers = self.buffers(rule, backward=False)
        flat = numbers(states)
        meeting = np.zeros(2 * steps + 1, np.int64)
        moments = self._moments(len(grid.jobs))

        def work(index: int, team: int) -> int:
            bad: int = roll_slabs(
                flat, len(flat) // len(states), first, steps, meeting, team, grid, rule,
                self.firing, buffers[index], moments, self.history,
            )  # fmt: skip
            return bad

        with _compilation(roll_slabs):
            bad = [step for step in together(work, len(buffers), meeting) if step >= 0]
        if bad:
            raise NonFiniteStateError(self.fire.first_step + min(bad))

    def _moments(self, rows: int) -> NDArray[np.float64]:
        """Room for moments of a batch norm; little without one."""
        packed = self.packed
        return np.zeros((rows, moment_count(packed.w0.shape[1])) if packed.batch else (1, 1))

    def backward(self, states: Tensor, grad: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Gradients of the first state and of the packed weights.

        Args:
            states: padded, ``(steps + 1, ...)``: before each step, and after the last.
            grad: ``(B, C, *spatial)``, of the last state.
        """
        grid, jobs = self.layout.grid, len(self.layout.grid.jobs)
        rule = self.packed.rule(grid.channels, backward=True)
        buffers = self.buffers(rule, backward=True)
        totals = [_partial(jobs, t, self.dtype) for t in self.packed.tensors]
        sums = Sums(*(t.numpy() for t in totals))
        grads = self.empty(2)
        self.inside(grads[0]).copy_(grad)
        before, both = states.view(-1).numpy(), grads.view(-1).numpy()
        meeting = np.zeros(4 * self.steps + 4, np.int64)
        moments = self._moments(jobs)

        def work(index: int, team: int) -> None:
            back_slabs(before, both, self.steps, self.layout.even_jobs, meeting, team, grid, rule,
                       self.firing, buffers[index], sums, self.history, moments)  # fmt: skip

        with _compilation(back_slabs):
            together(work, len(buffers), meeting)
        weights = tuple(
            total.sum(0)[: t.numel()].view(t.shape)
            for total, t in zip(totals, self.packed.tensors, strict=True)
        )
        return self.inside(grads[(self.steps + 1) % 2]), weights


def _partial(jobs: int, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Room for one partial gradient a job; the last tiles may reach past its end."""
    return torch.zeros(jobs, tensor.numel() + SLACK * tensor.shape[-1], dtype=dtype)


def _firing(fire: Fire, state: Tensor, steps: int) -> Firing:
    awake = fire.awake_cells(state.shape[2:])
    cells = np.zeros(0, np.uint8) if awake is None else awake.contiguous().view(torch.uint8).numpy()
    rows = cells if awake is None else cells.any(-1).ravel().view(np.uint8)
    positions, keys = np.zeros(0, np.uint32), np.zeros(0, np.uint64)
    if not fire.all_cells:
        positions = fire.positions(state.shape[2:], state.device).numpy().ravel().view(np.uint32)
        keys = np.array([fire.key(step) for step in range(steps)], np.uint64)
    return Firing(fire.all_cells, positions, keys, fire.level, cells.ravel(), rows)


class RolloutFunction(torch.autograd.Function):
    """Keeps the states, and recomputes the rest in the backward pass."""

    @staticmethod
    def forward(ctx: Any, run: Rollout, state: Tensor, *weights: Tensor) -> Tensor:
        """Map the state ``(B, C, *spatial)`` to the one after all steps."""
        states = run.empty(run.steps + 1)
        run.start(states, state.detach())
        last = run.forward(states)
        ctx.run = run
        ctx.save_for_backward(states)
        return run.copy(last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        """Map the gradient of the result to those of the state and the packed weights."""
        (states,) = ctx.saved_tensors
        state, weights = ctx.run.backward(states, grads[0])
        return (None, state, *weights)
