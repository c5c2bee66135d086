"""The pool of states from which training goes on, so that the automaton learns to keep a shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class SamplePool:
    """Keeps states of earlier iterations (Growing NCA, Mordvintsev et al. 2020).

    At first all states are seeds. Slot ``n`` always belongs to target ``n % targets``.

    Args:
        seeds: the seed state of each target, ``(targets, C, *spatial)``.
        size: number of states; if it is smaller than the number of targets, there is one for each.
    """

    def __init__(self, seeds: Tensor, size: int) -> None:
        self.seeds = seeds
        self.size = max(size, len(seeds))
        numbers = torch.arange(self.size) % len(seeds)
        self.states = seeds[numbers].clone()

    def target_of(self, slot: int) -> int:
        """Return the target that a slot belongs to."""
        return slot % len(self.seeds)

    def take(self, slots: Sequence[int]) -> Tensor:
        """Return the states in some slots, ``(len(slots), C, *spatial)``."""
        return self.states[list(slots)]

    def put(self, slots: Sequence[int], states: Tensor) -> None:
        """Put states into slots, without their gradients."""
        self.states[list(slots)] = states.detach().to(self.states)

    def state_dict(self) -> dict[str, Any]:
        """Return all states, so that a resumed training goes on as if it had never stopped."""
        return {"states": self.states.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            ValueError: if the states belong to a pool of another shape.
        """
        states = state["states"]
        if states.shape != self.states.shape:
            raise ValueError(
                f"the pool has the shape {tuple(states.shape)}, not {tuple(self.states.shape)}"
            )
        self.states = states.to(self.states).clone()
