"""A roll-out of cells that live and die, and its gradient: all steps on the compiled loops.

If the engine took the steps one by one, each step would pack the weights, make room for a state and
sum up gradients anew, which costs several times as much as the step of a small grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medseg_nca.errors import NonFiniteStateError
from medseg_nca.nca.cell import Cell
from medseg_nca.nca.fire import Fire
from medseg_nca.nca.kernels.layout import numbers
from medseg_nca.nca.kernels.library import KINDS, Call, Firing, Sums, library
from medseg_nca.nca.kernels.run import Rollout, learns, roll_out_learning
from medseg_nca.nca.kernels.team import together
from medseg_nca.nca.stepwise import clock_values, neighbours


@dataclass(frozen=True)
class _Step:
    """What the backward pass needs of a step: which cells could fire, and which live after it."""

    firing: Firing
    lives: Tensor


class LivingRollout(Rollout):
    """A roll-out of one cell with ``alive``, and perhaps a clock, on one grid.

    Args:
        cell: perception and update rule.
        state: a state ``(B, C, *spatial)``; only its shape, type and device are read.
        fire: which cells update; all are awake.
        steps: how many steps.
    """

    def __init__(self, cell: Cell, state: Tensor, fire: Fire, steps: int) -> None:
        super().__init__(cell, state, fire, steps)
        assert cell.settings.alive is not None
        self.alive, self.clock = cell.settings.alive, cell.settings.clock
        self.image = cell.image_channels
        self.own = cell.channels - cell.settings.clock_channels
        self.rules = self.packed.rule(self.layout.shape[-1], backward=False)
        self.taken: list[_Step] = []

    def living(self, padded: Tensor) -> Tensor:
        """Return which cells of a padded state live, bool ``(B, *spatial)``."""
        alpha = self.inside(padded)[:, self.image + self.alive.channel]
        return neighbours(alpha > self.alive.threshold, self.padding == "circular")

    def finish(self, padded: Tensor, step: int) -> None:
        """Write the clock of the step that comes next, and the halo, into a padded state."""
        if self.clock is not None:
            inside = self.inside(padded)
            for place, value in enumerate(clock_values(self.clock, step), self.own):
                inside[:, place] = value
        if self.layout.halo.numel():
            cells = padded.view(-1, self.layout.shape[-1])
            to, origin = self.layout.halo
            cells.index_copy_(0, to, cells.index_select(0, origin))

    def start(self, states: Tensor, state: Tensor) -> None:
        """Write a state into the first of the padded states, with the clock and the halo."""
        self.inside(states[0]).copy_(state.detach())
        self.finish(states[0], self.fire.first_step)

    def forward(self, states: Tensor, record: Callable[[Tensor], None] | None = None) -> Tensor:
        """Compute all steps, as :meth:`Rollout.forward` does.

        If there is a padded state for every step, they are filled with zeros at first, and what
        :meth:`backward` needs of every step is kept.
        """
        keep = len(states) > self.steps
        self.history = self._moments(self.steps)
        for step in range(self.steps):
            before, after = states[step % len(states)], states[(step + 1) % len(states)]
            if not keep:
                after.zero_()
            done = self._advance(states, step)
            body = self.inside(after)[:, self.image : self.own]
            body.mul_(done.lives.unsqueeze(1))
            if self.image:
                self.inside(after)[:, : self.image] = self.inside(before)[:, : self.image]
            self.finish(after, self.fire.first_step + step + 1)
            if keep:
                self.taken.append(done)
            if record is not None:
                record(self.inside(after).clone())
        return states[self.steps % len(states)]

    def _advance(self, states: Tensor, step: int) -> _Step:
        """Take a step of the cells that live before it, and return which of them live after it."""
        awake = self.living(states[step % len(states)])
        cells = awake.view(torch.uint8).numpy()
        rows = cells.any(-1).ravel().view(np.uint8)
        firing = Firing(**{**self.firing.kept, "awake": cells.ravel(), "rows": rows})
        flat, meeting = numbers(states), np.zeros(3, np.int64)
        moments = self._moments(self.layout.jobs)

        def work(_: int, team: int) -> int:
            call = Call(
                kind=KINDS[self.stored], count=len(states), size=len(flat) // len(states),
                first=step, steps=1, team=team, states=flat, grid=self.layout.grid,
                rule=self.rules, firing=firing, meeting=meeting, moments=moments,
                history=self.history,
            )  # fmt: skip
            return library().roll(call, library().scratch(call, backward=False))

        if max(together(work, self.team(backward=False), meeting)) >= 0:
            raise NonFiniteStateError(self.fire.first_step + step)
        return _Step(firing, awake & self.living(states[(step + 1) % len(states)]))

    def backward(self, states: Tensor, grad: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the gradients of the first state and of the packed weights.

        See :meth:`Rollout.backward`.
        """
        rule = self.packed.rule(self.layout.shape[-1], backward=True)
        totals, sums = self.partial_sums()
        grads = self.empty(2)
        inside = self.inside(grads[0])
        inside.copy_(grad)
        flat, jobs = numbers(grads), self.layout.jobs
        for step in reversed(range(self.steps)):
            inside[:, self.image : self.own].mul_(self.taken[step].lives.unsqueeze(1))
            inside[:, self.own :] = 0
            self._back(numbers(states[step]), flat, rule, sums, step, jobs)
        inside[:, self.own :] = 0
        return inside, self.summed(totals)

    def _back(self, state: Any, flat: Any, rule: Any, sums: Sums, step: int, jobs: int) -> None:
        meeting, moments = np.zeros(8, np.int64), self._moments(jobs)
        history, keys = self.history[step : step + 1], self.firing.kept["keys"]
        # The loops count the steps from 0 on their way back.
        own = {"keys": None if keys is None else keys[step : step + 1]}
        firing = Firing(**{**self.taken[step].firing.kept, **own})

        def work(_: int, team: int) -> None:
            call = Call(
                kind=KINDS[self.dtype], size=len(flat) // 2, steps=1,
                middle=self.layout.even_jobs, team=team, states=state, grads=flat,
                grid=self.layout.grid, rule=rule, firing=firing, sums=sums, meeting=meeting,
                moments=moments, history=history,
            )  # fmt: skip
            library().back(call, library().scratch(call, backward=True))

        together(work, self.team(backward=True), meeting)


def compute_living(
    cell: Cell,
    state: Tensor,
    steps: int,
    fire: Fire,
    record: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Update an automaton whose cells live and die.

    Args:
        cell: with ``alive``, perhaps with a clock, without ``stop``.
        state: ``(B, C, *spatial)``, float32 or float64.
        steps: how many steps, at least one.
        fire: which cells update; all are awake.
        record: called with the state after every step; not while gradients are recorded.
    """
    run = LivingRollout(cell, state, fire, steps)
    if learns(run, state):
        return roll_out_learning(run, state)
    states = run.empty(2)
    run.start(states, state)
    return run.copy(run.forward(states, record))
