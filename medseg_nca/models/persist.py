"""Let a level's roll-out go on from an older state in training, so that its answer stays.

See :class:`~medseg_nca.config.persist.PersistSettings` for what is done and where it comes from.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medseg_nca.config.persist import PersistSettings
from medseg_nca.models.gradient import without_gradient
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.damage import random_damage
from medseg_nca.nca.engines.base import Engine
from medseg_nca.nca.fire import mix
from medseg_nca.nca.stepwise import around

_OLDER, _WOUND, _NOISE = 0x01DE4, 0x40AD, 0x2015E


@dataclass(frozen=True)
class OlderState:
    """What the steps with gradients begin with.

    Attributes:
        state: ``(B, C, *spatial)``, after the extra steps, and damaged where that was drawn.
        fire: the fire mask as it goes on.
        kept: the hidden channels ``(B, hidden, *spatial)`` before the damage, without the clock,
            from which the state is not to move away; None where it is free to move.
        hidden: which channels of a state those are; None with ``kept``.
        weight: of the penalty on moving away.
    """

    state: Tensor
    fire: Fire
    kept: Tensor | None = None
    hidden: slice | None = None
    weight: float = 0.0

    def unrest(self, after: Tensor) -> Tensor | None:
        """Return the penalty for a state ``(B, C, *spatial)`` after the steps; None if it is off.

        It is the mean distance of the hidden values from those before the damage.
        """
        if self.kept is None or self.hidden is None:
            return None
        return self.weight * (after[:, self.hidden].float() - self.kept.float()).abs().mean()


def grow_older(
    engine: Engine,
    cell: Cell,
    state: Tensor,
    usual: int,
    fire: Fire,
    settings: PersistSettings,
    seed: int,
    level: int,
) -> OlderState:
    """Take a random number of extra steps, which no gradient passes, or none.

    Args:
        engine: who computes the steps.
        cell: the cell of the level.
        state: the state that the level begins with, ``(B, C, *spatial)``.
        usual: the level's number of steps at inference.
        fire: the fire mask of the level.
        settings: what is drawn.
        seed: seed of the training step.
        level: index of the level; each draws for itself.
    """
    rng = random.Random(mix(seed, level, _OLDER))
    if rng.random() >= settings.chance:
        return OlderState(state, fire)
    count = max(round(rng.uniform(0, settings.extra) * usual), 1)
    with torch.no_grad():
        # All of these steps are taken, as in every training: the fire mask counts them.
        engine = around(engine, cell.settings, stops=False)
        older = roll_out(engine, cell, state, count, fire)
        kept = older[:, cell.hidden] if settings.still and count >= usual else None
        numbers = [mix(seed, level, _WOUND, sample) for sample in range(len(older))]
        older = damaged(older, cell.hidden, settings, numbers)
    # Under mixed precision torch keeps copies of the weights; before version 2.11, those that were
    # made without gradients passed none later either (pytorch issue 158232).
    torch.clear_autocast_cache()
    return OlderState(
        without_gradient(older, state), fire.advance(count), kept, cell.hidden, settings.still
    )  # fmt: skip


def damaged(
    state: Tensor, hidden: slice, settings: PersistSettings, numbers: Sequence[int]
) -> Tensor:
    """Return a state with holes and noise in its hidden channels.

    Args:
        state: ``(B, C, *spatial)``; it is not changed.
        hidden: the hidden channels; others, of the image and the clock, stay as they are.
        settings: how often, and how much.
        numbers: one for each sample, from which its damage is drawn.
    """
    if not settings.holes and not settings.noise:
        return state
    state = state.clone()
    for sample, number in enumerate(numbers):
        values = state[sample, hidden]
        if random.Random(number).random() < settings.holes:
            values *= random_damage(values.shape[1:], number).to(state.device)
        if settings.noise:
            generator = torch.Generator().manual_seed(mix(number, _NOISE))
            noise = torch.randn(values.shape, generator=generator)
            values += settings.noise * noise.to(values)
    return state
