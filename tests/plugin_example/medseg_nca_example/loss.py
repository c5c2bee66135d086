"""A loss: the mean squared difference of probabilities and targets."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SquaredDifference(nn.Module):
    """Brier score, times ``weight``."""

    def __init__(self, multi_label: bool, weight: float) -> None:
        super().__init__()
        self.multi_label = multi_label
        self.weight = weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``(B, K, *spatial)`` logits."""
        found = torch.sigmoid(logits) if self.multi_label else torch.softmax(logits, 1)
        return self.weight * (found - target).square().mean()


def build(multi_label: bool, weight: float = 1.0) -> nn.Module:
    """Build the loss; ``weight`` is ``training.loss.params.weight``."""
    return SquaredDifference(multi_label, weight)
