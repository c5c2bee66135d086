"""Two layers, ``dx = W1 act(norm(W0 p + b0))``."""

from __future__ import annotations

from torch import Tensor, nn

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
        return self.output(self.hidden_values(perceived))  # type: ignore[no-any-return]

    def layers(self) -> TwoLayers:
        """See :meth:`UpdateRule.layers`."""
        hidden = self.hidden
        return TwoLayers(hidden.weight, hidden.bias, self.output.weight, self.scale, self.shift)


UPDATE_RULE = MlpRule
