"""Two layers, ``dx = W1 act(norm(W0 p + b0))``."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from medseg_nca.config.model import UpdateSettings
from medseg_nca.nca.update_rules.base import CellShape, HiddenRule, TwoLayers


class MlpRule(HiddenRule):
    """``dx = W1 act(norm(W0 p + b0))`` for each cell on its own.

    ``W1`` starts at zero, so that an untrained automaton does nothing (Growing NCA, Mordvintsev et
    al. 2020). There is no bias after ``W1``: without a signal, nothing changes.
    """

    two_layers = True

    def __init__(self, settings: UpdateSettings, shape: CellShape) -> None:
        super().__init__(settings, shape)
        self.output = nn.Linear(settings.hidden, shape.outputs, bias=False)
        nn.init.zeros_(self.output.weight)

    def forward(self, perceived: Tensor) -> Tensor:
        """See :meth:`UpdateRule.forward`."""
        return F.linear(self.hidden_values(perceived), self.limited(self.output.weight))

    def layers(self) -> TwoLayers:
        """See :meth:`UpdateRule.layers`."""
        w0, w1 = self.limited(self.hidden.weight), self.limited(self.output.weight)
        return TwoLayers(w0, self.hidden.bias, w1, self.scale, self.shift)


UPDATE_RULE = MlpRule
