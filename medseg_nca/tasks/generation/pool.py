"""The pool of states that training begins from, so that the automaton learns to keep its shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class SamplePool:
    """States of earlier iterations, all seeds at first (Growing NCA, Mordvintsev et al. 2020).

    Slot ``n`` belongs to target ``n % targets`` for good.

    Args:
        seeds: the seed state of each target, ``(targets, C, *spatial)``.
        size: how many states are kept; at least one for each target.
    """

    def __init__(self, seeds: Tensor, size: int) -> None:
        self.seeds = seeds
        self.size = max(size, len(seeds))
        numbers = torch.arange(self.size) % len(seeds)
        self.states = seeds[numbers].clone()

    def target_of(self, slot: int) -> int:
        """The target that the state in a slot is to become."""
        return slot % len(self.seeds)

    def take(self, slots: Sequence[int]) -> Tensor:
        """The states in some slots, ``(len(slots), C, *spatial)``."""
        return self.states[list(slots)]

    def put(self, slots: Sequence[int], states: Tensor) -> None:
        """Keep states for later; without their gradients."""
        self.states[list(slots)] = states.detach().to(self.states)

    def state_dict(self) -> dict[str, Any]:
        """All states, so that a resumed training goes on as if nothing had happened."""
        return {"states": self.states.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave.

        Raises:
            ValueError: if they are the states of another pool.
        """
        states = state["states"]
        if states.shape != self.states.shape:
            raise ValueError(
                f"the pool has the shape {tuple(states.shape)}, not {tuple(self.states.shape)}"
            )
        self.states = states.to(self.states).clone()
