"""A roll-out on the compiled loops, and its gradient."""

from __future__ import annotations

import threading
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
from medseg_nca.nca.kernels.layout import (
    GridLayout,
    aligned,
    make_layout,
    moment_count,
    numbers,
    padded_channels,
)
from medseg_nca.nca.kernels.library import KINDS, Call, Firing, Sums, library
from medseg_nca.nca.kernels.rule import PackedRule, pack, pack_once
from medseg_nca.nca.kernels.team import team_size, together
from medseg_nca.nca.rounding import rounded

# Memory of up to this many bytes is kept by each thread for its next roll-out.
_SPARE_BYTES = 64e6
_spares = threading.local()


class Rollout:
    """A roll-out of one cell on one grid: all that stays the same from step to step.

    Args:
        cell: perception and update rule.
        state: a state ``(B, C, *spatial)``; only its shape, type and device are read.
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
        self.packed: PackedRule = (pack if learning else pack_once)(cell, fire.scale, self.dtype)
        self.padding = cell.settings.perception.padding
        bank = cell.perception.bank
        self.layout: GridLayout = make_layout(
            state.shape[0], tuple(state.shape[2:]), cell.perception.radius,
            self.padding, padded_channels(cell.channels, self.dtype),
            1 if bank is None else bank.dilation,
        )  # fmt: skip
        awake = fire.awake_cells(state.shape[2:])
        self.all_awake = awake is None
        self.firing = _firing(fire, awake, state, steps)
        cells = self.layout.cells if awake is None else int(awake.sum())
        firing_cells = cells * (1.0 if fire.all_cells else fire.rate)
        inputs, hidden = self.packed.w0.shape
        self.operations = firing_cells * 2 * (
            self.packed.filters.numel() + hidden * (inputs + self.layout.grid.channels)
        )  # fmt: skip

    def empty(self, count: int) -> Tensor:
        """Return memory for ``count`` padded states, filled with zeros."""
        return aligned((count, *self.layout.shape), self.stored)

    @contextmanager
    def spare(self) -> Iterator[Tensor]:
        """Lend memory for two padded states, which this thread keeps for its next roll-out.

        Asking for fresh memory takes about as long as a step. While the memory is lent, no other
        roll-out gets it; after an error it is dropped.
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
        """Return the state ``(B, C, *spatial)`` inside a padded state; a view."""
        return self.layout.view(padded, self.channels, self.dims)

    def team(self, backward: bool) -> int:
        """Return how many threads a forward or backward pass deserves."""
        return team_size(self.operations * (4 if backward else 1), self.layout.jobs)

    def copy(self, padded: Tensor) -> Tensor:
        """Return a copy of the state ``(B, C, *spatial)`` inside a padded state, channels-last."""
        inside = self.inside(padded).movedim(1, -1)
        memory = aligned(inside.shape, self.stored)
        return memory.copy_(inside).movedim(-1, 1)

    def start(self, states: Tensor, state: Tensor) -> None:
        """Write a state ``(B, C, *spatial)`` into the first of the padded states, with its halo."""
        first = states[0]
        if state.is_contiguous() and self.channels > 1:
            call = Call(
                kind=KINDS[self.stored], states=numbers(first), grid=self.layout.grid,
                meeting=np.zeros(2, np.int64),
            )  # fmt: skip
            source = numbers(state.detach())
            together(
                lambda *_: library().load(call, source, self.channels),
                self.team(backward=False),
                call.kept["meeting"],
            )
        else:
            self.inside(first).copy_(state)
        if self.layout.halo.numel():
            cells = first.view(-1, self.layout.shape[-1])
            to, origin = self.layout.halo
            cells.index_copy_(0, to, cells.index_select(0, origin))
        # Steps write only rows that have an awake cell, so every state gets the other rows now.
        if not self.all_awake:
            states[1:] = first

    def forward(self, states: Tensor, record: Callable[[Tensor], None] | None = None) -> Tensor:
        """Compute all steps, and return the padded state after the last.

        Step n reads ``states[n]`` and writes ``states[n + 1]``; both indices are taken modulo the
        number of states.

        Args:
            states: padded states, the first one filled by :meth:`start`.
            record: called with the state ``(B, C, *spatial)`` after every step.

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
        rule = self.packed.rule(self.layout.shape[-1], backward=False)
        flat, meeting = numbers(states), np.zeros(2 * steps + 1, np.int64)
        moments = self._moments(self.layout.jobs)

        def work(_: int, team: int) -> int:
            call = Call(
                kind=KINDS[self.stored], count=len(states), size=len(flat) // len(states),
                first=first, steps=steps, team=team, states=flat, grid=self.layout.grid, rule=rule,
                firing=self.firing, meeting=meeting, moments=moments, history=self.history,
            )  # fmt: skip
            return library().roll(call, library().scratch(call, backward=False))

        bad = [step for step in together(work, self.team(backward=False), meeting) if step >= 0]
        if bad:
            raise NonFiniteStateError(self.fire.first_step + min(bad))

    def _moments(self, rows: int) -> NDArray[np.float64]:
        """Return zeros for the moments of a batch norm, ``(rows, numbers)``.

        Without a batch norm the array is not used, and has a single number.
        """
        packed = self.packed
        return np.zeros((rows, moment_count(packed.w0.shape[1])) if packed.batch else (1, 1))

    def backward(self, states: Tensor, grad: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the gradients of the first state and of the packed weights.

        Args:
            states: padded states ``(steps + 1, ...)``: before each step, and after the last step.
            grad: gradient of the last state, ``(B, C, *spatial)``.
        """
        jobs = self.layout.jobs
        rule = self.packed.rule(self.layout.shape[-1], backward=True)
        totals, sums = self.partial_sums()
        grads = self.empty(2)
        self.inside(grads[0]).copy_(grad)
        before, both = numbers(states), numbers(grads)
        meeting, moments = np.zeros(4 * self.steps + 4, np.int64), self._moments(jobs)

        def work(_: int, team: int) -> None:
            call = Call(
                kind=KINDS[self.dtype], size=len(both) // 2, steps=self.steps,
                middle=self.layout.even_jobs, team=team, states=before, grads=both,
                grid=self.layout.grid, rule=rule, firing=self.firing, sums=sums, meeting=meeting,
                moments=moments, history=self.history,
            )  # fmt: skip
            library().back(call, library().scratch(call, backward=True))

        together(work, self.team(backward=True), meeting)
        return self.inside(grads[(self.steps + 1) % 2]), self.summed(totals)

    def partial_sums(self) -> tuple[list[Tensor], Sums]:
        """Return zeros for the gradients of the packed weights, and their places for the loops."""
        totals = [_partial(self.layout.jobs, t, self.dtype) for t in self.packed.tensors]
        names = ("filters", "w0", "w1", "scale", "shift")
        sums = Sums(
            **{name: numbers(t) for name, t in zip(names, totals, strict=True)},
            **{f"{name}_row": t.shape[1] for name, t in zip(names, totals, strict=True)},
        )
        return totals, sums

    def summed(self, totals: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the gradients of the packed weights: the sums of what each job has added."""
        return tuple(
            total.sum(0)[: t.numel()].view(t.shape)
            for total, t in zip(totals, self.packed.tensors, strict=True)
        )


def _partial(jobs: int, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return zeros for a gradient, with a row for each job.

    Rows are longer than the gradient, because the loops compute whole blocks and the last block
    may reach past its end.
    """
    room = tensor.numel() + library().slack * tensor.shape[-1]
    return torch.zeros(jobs, room, dtype=dtype)


def _firing(fire: Fire, awake: Tensor | None, state: Tensor, steps: int) -> Firing:
    cells = None if awake is None else awake.contiguous().view(torch.uint8).numpy()
    positions, keys = None, None
    if not fire.all_cells:
        positions = fire.positions(state.shape[2:], state.device).numpy().ravel().view(np.uint32)
        keys = np.array([fire.key(step) for step in range(steps)], np.uint32)
    return Firing(
        every=fire.all_cells, level=fire.level, positions=positions, keys=keys,
        awake=None if cells is None else cells.ravel(),
        rows=None if cells is None else cells.any(-1).ravel().view(np.uint8),
    )  # fmt: skip


class RolloutFunction(torch.autograd.Function):
    """A differentiable roll-out of any kind; it stores the states and recomputes the rest."""

    @staticmethod
    def forward(ctx: Any, run: Rollout, state: Tensor, *weights: Tensor) -> Tensor:
        """Return the state ``(B, C, *spatial)`` after all steps."""
        states = run.empty(run.steps + 1)
        run.start(states, state.detach())
        last = run.forward(states)
        ctx.run = run
        ctx.save_for_backward(states)
        return run.copy(last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        """Return the gradients of the state and the packed weights from that of the result."""
        (states,) = ctx.saved_tensors
        state, weights = ctx.run.backward(states, grads[0])
        return (None, state, *weights)


def learns(run: Rollout, state: Tensor) -> bool:
    """Return whether gradients of the roll-out are recorded."""
    sources = (state, *run.packed.tensors)
    return torch.is_grad_enabled() and any(t.requires_grad for t in sources)


def roll_out_learning(run: Rollout, state: Tensor) -> Tensor:
    """Roll out from a state ``(B, C, *spatial)`` while gradients are recorded."""
    return RolloutFunction.apply(run, state, *run.packed.tensors)  # type: ignore[no-any-return, no-untyped-call]


def compute(
    cell: Cell,
    state: Tensor,
    steps: int,
    fire: Fire,
    record: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Roll the automaton out, as :meth:`medseg_nca.nca.engines.base.Engine.roll_out` says."""
    run = Rollout(cell, state, fire, steps)
    if not learns(run, state):
        with run.spare() as states:
            run.start(states, state)
            return run.copy(run.forward(states, record))
    if record is None:
        return roll_out_learning(run, state)
    for step in range(steps):
        state = roll_out_learning(Rollout(cell, state, fire.advance(step), 1), state)
        record(state)
    return state
