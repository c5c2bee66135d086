"""What is done around a step: which cells live, bounds, a clock that they see, when to stop.

Engines compute plain steps. A cell with one of these options is taken through them one by one, so
that every engine agrees and none has to know of them, though one may take several at once
(:meth:`~medseg_nca.nca.engines.base.Engine.roll_out_living`). A cell without is left to its engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from medseg_nca.config.model import AliveSettings, BoundSettings, CellSettings, ClockSettings
from medseg_nca.nca.cell import Cell
from medseg_nca.nca.engines.base import Engine, Record
from medseg_nca.nca.fire import Fire

# Told after a roll-out how many steps each sample took.
Told = Callable[[tuple[int, ...]], None]


def around(
    engine: Engine, settings: CellSettings, told: Told | None = None, *, stops: bool = True
) -> Engine:
    """Return an engine that heeds the options of a cell; the engine itself if there are none.

    Args:
        engine: who computes the steps.
        settings: of the cell.
        told: called after every roll-out with the number of steps that each sample took.
        stops: whether the option ``stop`` is heeded without gradients; with them it never is.
    """
    if isinstance(engine, Stepwise):
        return engine if stops else Stepwise(engine.engine, engine.told, stops)
    if not settings.options:
        return engine
    return Stepwise(engine, told, stops)


class Stepwise(Engine):
    """Takes an engine through one step at a time.

    Args:
        engine: who computes the steps.
        told: see :func:`around`.
        stops: see :func:`around`.
    """

    def __init__(self, engine: Engine, told: Told | None = None, stops: bool = True) -> None:
        self.engine, self.told, self.stops = engine, told, stops
        self.devices = engine.devices

    def refuses(self, cell: Cell, state: Tensor) -> str | None:
        """See :meth:`Engine.refuses`."""
        return self.engine.refuses(cell, state)

    def unusable(self, state: Tensor) -> str | None:
        """See :meth:`Engine.unusable`."""
        return self.engine.unusable(state)

    def bytes_per_cell(self, cell: Cell, state: Tensor) -> float:
        """That of the engine, and one state more; with ``bound``, three."""
        own = self.engine.bytes_per_cell(cell, state)
        states = 1 if cell.settings.bound is None else 3
        return own + states * cell.channels * max(state.element_size(), 4)

    def bytes_kept(self, cell: Cell, state: Tensor) -> float:
        """Twice that of the engine: a step keeps what it began with and what it came to.

        With ``bound`` it keeps the hidden values before and after that, too.
        """
        more = 0 if cell.settings.bound is None else 2 * cell.channels * state.element_size()
        return 2 * self.engine.bytes_kept(cell, state) + more

    def roll_out(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor:
        """See :meth:`Engine.roll_out`; with ``stop`` there may be fewer steps."""
        self.check(cell, state, fire)
        at_once = None
        if cell.settings.bound is None:
            at_once = self.engine.roll_out_living(cell, state, steps, fire, record)
        if at_once is not None:
            if self.told is not None:
                self.told((steps,) * state.shape[0])
            return at_once
        state = with_clock(cell, state, fire.first_step)
        taken = [steps] * state.shape[0]
        going = list(range(state.shape[0]))
        stop = cell.settings.stop if self.stops and not torch.is_grad_enabled() else None
        for step in range(steps):
            if not going:
                break
            now = fire.advance(step)
            if len(going) == state.shape[0]:
                before, after = state, self._step(cell, state, now)
                state = after
            else:
                before = state[going]
                after = self._step(cell, before, _part(now, going, state.shape[0]))
                state = state.clone()
                state[going] = after
            if record is not None:
                record(state)
            if stop is not None and step + 1 >= stop.least:
                still = changes(cell, before, after) < stop.tolerance
                for sample in [s for s, quiet in zip(going, still.tolist(), strict=True) if quiet]:
                    going.remove(sample)
                    taken[sample] = step + 1
        if self.told is not None:
            self.told(tuple(taken))
        return state

    def _step(self, cell: Cell, state: Tensor, fire: Fire) -> Tensor:
        alive = cell.settings.alive
        if alive is None:
            after = bounded(cell, self.engine.roll_out(cell, state, 1, fire), fire)
            return with_clock(cell, after, fire.first_step + 1)
        before = living(cell, state, alive)
        awake = fire.awake_cells(state.shape[2:])
        # A cell that does not live is zero after the step, so it need not be computed.
        fire = replace(fire, awake=before if awake is None else before & awake)
        after = bounded(cell, self.engine.roll_out(cell, state, 1, fire), fire)
        lives = (before & living(cell, after, alive)).unsqueeze(1).to(after.dtype)
        image, rest = after[:, : cell.image_channels], after[:, cell.image_channels :] * lives
        after = torch.cat((image, rest), 1) if cell.image_channels else rest
        return with_clock(cell, after, fire.first_step + 1)


def living(cell: Cell, state: Tensor, alive: AliveSettings) -> Tensor:
    """Which cells live: bool ``(B, *spatial)`` for a state ``(B, C, *spatial)``.

    A cell lives if the largest value of its channel among itself and its 3^d - 1 neighbours exceeds
    the threshold. Beyond the border nothing lives, but with circular padding the far side does.
    """
    values = state.detach()[:, cell.image_channels + alive.channel]
    return neighbours(values > alive.threshold, cell.settings.perception.padding == "circular")


def neighbours(found: Tensor, circular: bool) -> Tensor:
    """Which cells are among ``found``, bool ``(B, *spatial)``, or next to one, corners included.

    Axis by axis, and with bits: the same as a max-pool, which takes torch ten times as long.
    """
    for axis in range(1, found.ndim):
        near = found.clone()
        length = found.shape[axis] - 1
        low, high = found.narrow(axis, 0, length), found.narrow(axis, 1, length)
        near.narrow(axis, 1, length).logical_or_(low)
        near.narrow(axis, 0, length).logical_or_(high)
        if circular:
            near.select(axis, 0).logical_or_(found.select(axis, length))
            near.select(axis, length).logical_or_(found.select(axis, 0))
        found = near
    return found


def bounded(cell: Cell, state: Tensor, fire: Fire) -> Tensor:
    """Bring hidden values within their bound, ``(B, C, *spatial)``; unchanged without a bound.

    Args:
        cell: its image channels and its clock are left as they are.
        state: the state after a step.
        fire: the mask of that step; a cell that did not fire has not changed.
    """
    bound = cell.settings.bound
    if bound is None:
        return state
    hidden = _within(bound, state[:, cell.hidden], fire)
    return torch.cat((state[:, : cell.image_channels], hidden, state[:, cell.hidden.stop :]), 1)


def _within(bound: BoundSettings, values: Tensor, fire: Fire) -> Tensor:
    if bound.kind == "clamp":
        return values.clamp(-bound.limit, bound.limit)
    soft = bound.limit * torch.tanh(values / bound.limit)
    shape = values.shape[2:]
    positions = None if fire.all_cells else fire.positions(shape, values.device)
    fired = fire.firing(positions, shape, 0)
    return soft if fired is None else torch.where(fired.unsqueeze(1), soft, values)


def with_clock(cell: Cell, state: Tensor, step: int) -> Tensor:
    """Write which step comes next into a state ``(B, C, *spatial)``; unchanged without a clock."""
    clock = cell.settings.clock
    if clock is None:
        return state
    values = torch.tensor(clock_values(clock, step), dtype=state.dtype, device=state.device)
    hands = values.view(1, -1, *[1] * cell.dims)
    rest = state[:, : -clock.channels]
    return torch.cat((rest, hands.expand(state.shape[0], -1, *state.shape[2:])), 1)


def clock_values(clock: ClockSettings, step: int) -> list[float]:
    """What the clock shows before the ``step``-th step, the first being 0; one value a channel."""
    share = step / clock.period
    if clock.kind == "share":
        return [min(share, 1.0)]
    waves = [2 * math.pi * share * 2**wave for wave in range(clock.channels // 2)]
    return [hand(angle) for angle in waves for hand in (math.sin, math.cos)]


def changes(cell: Cell, before: Tensor, after: Tensor) -> Tensor:
    """Return the mean absolute change of the hidden values of each sample, ``(B,)``.

    The clock, which is told and not computed, is left out.
    """
    difference = after[:, cell.hidden].float() - before[:, cell.hidden].float()
    return difference.abs().flatten(1).mean(1)


def _part(fire: Fire, samples: Sequence[int], batch: int) -> Fire:
    """The mask of some samples of a batch."""
    seeds = fire.seeds
    if len(seeds) == batch:
        seeds = tuple(seeds[sample] for sample in samples)
    return replace(fire, seeds=seeds, awake=None if fire.awake is None else fire.awake[samples])
