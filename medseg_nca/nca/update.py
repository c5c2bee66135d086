"""The update rule: from what a cell perceives to how its state changes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg_nca.config.model import UpdateSettings

EPS = 1e-5

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "silu": F.silu,
}


class UpdateRule(nn.Module):
    """``dx = W1 act(norm(W0 p + b0))`` for each cell on its own.

    ``W1`` starts at zero, so that an untrained automaton does nothing (Growing NCA, Mordvintsev et
    al. 2020). There is no bias after ``W1``: without a signal, nothing changes.
    """

    def __init__(self, settings: UpdateSettings, inputs: int, outputs: int) -> None:
        super().__init__()
        self.settings = settings
        self.hidden = nn.Linear(inputs, settings.hidden)
        self.output = nn.Linear(settings.hidden, outputs, bias=False)
        nn.init.zeros_(self.output.weight)
        self.scale: nn.Parameter | None = None
        self.shift: nn.Parameter | None = None
        if settings.norm != "none":
            self.scale = nn.Parameter(torch.ones(settings.hidden))
        if settings.whole_grid:
            self.shift = nn.Parameter(torch.zeros(settings.hidden))

    def forward(self, perceived: Tensor) -> Tensor:
        """Map ``(cells, inputs)`` to ``(cells, outputs)``."""
        hidden = self._norm(self.hidden(perceived))
        return self.output(ACTIVATIONS[self.settings.activation](hidden))  # type: ignore[no-any-return]

    def _norm(self, hidden: Tensor) -> Tensor:
        if self.scale is None:
            return hidden
        if self.shift is None:
            return hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + EPS) * self.scale
        if not len(hidden):  # no cell fires: there is nothing to take a mean of
            return hidden * self.scale + self.shift
        # Not F.batch_norm: it refuses a single cell, which a small coarse level can come down to.
        variance, mean = torch.var_mean(hidden, 0, correction=0)
        return (hidden - mean) * torch.rsqrt(variance + EPS) * self.scale + self.shift
