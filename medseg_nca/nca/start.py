"""What one roll-out begins with, for code that looks at states instead of answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medseg_nca.nca.cell import Cell
from medseg_nca.nca.engines.base import Engine, Record
from medseg_nca.nca.fire import Fire
from medseg_nca.nca.rollout import roll_out


@dataclass(frozen=True)
class RollOutStart:
    """One roll-out, ready to take its steps at inference.

    Attributes:
        engine: who computes the steps.
        cell: perception and update rule.
        state: the state before the first step, ``(B, C, *spatial)``.
        fire: which cells update, from the first step on.
        steps: how many steps the model takes at inference.
    """

    engine: Engine
    cell: Cell
    state: Tensor
    fire: Fire
    steps: int

    @property
    def hidden(self) -> slice:
        """See :attr:`Cell.hidden`."""
        return self.cell.hidden

    def masked(self, mode: str) -> RollOutStart:
        """Return the same roll-out with fire masks drawn ("sample"), or without ("mean")."""
        fire = replace(self.fire, mode="mean" if mode == "mean" else "sample")
        return replace(self, fire=fire)

    @torch.inference_mode()
    def go(self, steps: int, record: Record | None = None) -> Tensor:
        """Take some steps from :attr:`state`, and return the new state.

        Args:
            steps: how many.
            record: called with the state after every step.

        Raises:
            NonFiniteStateError: if a value becomes NaN or infinite.
            Interrupted: if the job of this thread was cancelled.
        """
        if steps < 1:
            return self.state
        return roll_out(self.engine, self.cell, self.state, steps, self.fire, record=record)

    def after(self, steps: int, state: Tensor) -> RollOutStart:
        """Return the roll-out that goes on from a state which took ``steps`` steps."""
        return replace(self, state=state, fire=self.fire.advance(steps))
