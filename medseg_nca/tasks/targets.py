"""What is asked of states besides the targets of their level."""

from __future__ import annotations

import torch
from torch import Tensor


def overflow(state: Tensor | None, bound: float) -> Tensor:
    """Mean distance of state values from [-bound, bound] (Growing NCA's overflow loss)."""
    if state is None:
        return torch.zeros(())
    return (state - state.clamp(-bound, bound)).abs().mean()
