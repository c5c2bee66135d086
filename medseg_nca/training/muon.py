"""Muon: an optimiser with steps of equal strength in every direction of a matrix.

An automaton applies the same few small matrices dozens of times, and their gradients lie almost in
a few directions. Muon replaces the momentum of a matrix by the nearest semi-orthogonal matrix, so
that rare directions are learned as fast as frequent ones. All other parameters get AdamW.

Sources: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the
scale of a step, at which Muon takes the learning rates of AdamW: J. Liu et al., "Muon is scalable
for LLM training", arXiv 2502.16982, 2025.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

MOMENTUM = 0.95
# Root mean square of a step's entries at a learning rate of 1: about that of AdamW.
STEP_RMS = 0.2
# A matrix gets no step if the largest entry of its momentum is below this: the direction of such a
# momentum consists of rounding errors.
FADED = 1e-20
# Coefficients of the quintic Newton-Schulz iteration (Jordan 2024), and how often it is applied.
_QUINTIC, _ROUNDS = (3.4445, -4.7750, 2.0315), 6


class Muon(AdamW):
    """Muon for parameters with two axes, AdamW for all others.

    Args:
        params: tensors, or groups of tensors with settings of their own. A group that holds both
            kinds of parameters is split in two.
        lr: learning rate, on the scale of learning rates of AdamW.
        betas: decay rates of the two moments; Muon uses the first for its momentum.
        weight_decay: decoupled weight decay, for all parameters.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(_apart(params), lr=lr, betas=betas, weight_decay=weight_decay)

    def step(self, closure: Any = None) -> Any:
        """Take one step; parameters without a gradient stay as they are."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["matrices"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["matrices"]:
                self._step_matrices(group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a stored state.

        Raises:
            ValueError: if the state belongs to another optimiser.
        """
        if not all("matrices" in group for group in state_dict["param_groups"]):
            raise ValueError("the optimiser's state is not that of Muon")
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def _step_matrices(self, group: dict[str, Any]) -> None:
        rate: float = group["lr"]
        for matrix in group["params"]:
            if matrix.grad is None:
                continue
            state = self.state[matrix]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(matrix)
                state["step"] = torch.tensor(0.0)  # AdamW expects it when it loads a state
            state["step"] += 1
            momentum = state["momentum"].lerp_(matrix.grad, 1 - MOMENTUM)
            ahead = torch.lerp(matrix.grad, momentum, MOMENTUM)
            if ahead.abs().amax() < FADED:
                continue
            matrix.mul_(1 - rate * group["weight_decay"])
            strength = rate * STEP_RMS * max(matrix.shape) ** 0.5
            matrix.add_(orthogonalised(ahead), alpha=-strength)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return a matrix near the nearest semi-orthogonal matrix of ``(rows, columns)``.

    Singular values of zero stay zero, and all others become 0.7 to 1.2 instead of 1, which is near
    enough for a step.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    # Division by the largest entry comes first: squares of very small or very large entries would
    # leave the range of float32.
    tiny = torch.finfo(x.dtype).tiny
    x = x / x.abs().amax().clamp_min(tiny)
    x = x / x.norm().clamp_min(tiny)
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    found: Tensor = x.T if tall else x
    return found


def _apart(params: Iterable[Any]) -> list[dict[str, Any]]:
    """Return groups that each hold only matrices, or no matrix."""
    listed = list(params)
    groups = listed if listed and isinstance(listed[0], dict) else [{"params": listed}]
    parts = []
    for group in groups:
        for matrices in (True, False):
            chosen = [p for p in group["params"] if (p.ndim == 2) == matrices]
            if chosen:
                parts.append({**group, "params": chosen, "matrices": matrices})
    return parts
