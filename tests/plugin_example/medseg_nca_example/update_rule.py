"""An update rule: one matrix, and a limit on how much a cell changes in a step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg_nca.config.model import UpdateSettings
from medseg_nca.nca.update_rules.base import CellShape, UpdateRule


class LimitedRule(UpdateRule):
    """``dx = limit * tanh(W p)``, with ``W`` zero at the start."""

    def __init__(self, settings: UpdateSettings, shape: CellShape, *, limit: float = 0.5) -> None:
        super().__init__(settings, shape)
        self.matrix = nn.Linear(shape.inputs, shape.outputs, bias=False)
        nn.init.zeros_(self.matrix.weight)
        self.limit = limit

    def forward(self, perceived: Tensor) -> Tensor:
        """See :meth:`UpdateRule.forward`."""
        return self.limit * torch.tanh(self.matrix(perceived))


UPDATE_RULE = LimitedRule
