"""A gated recurrent unit, whose memory is the state of the cell."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg_nca.config.model import UpdateSettings
from medseg_nca.nca.update_rules.base import CellShape, HiddenRule


class GruRule(HiddenRule):
    """``x' = z x + (1 - z) n``: a gate ``z`` keeps a share of the state, and ``n`` takes the rest.

    ``h`` are the hidden values of what the cell perceives, as the rule ``mlp`` has them. With
    ``r, z = sigmoid(W h + U x)`` the candidate is ``n = tanh(Wn h + r Un x)`` (GRU: Cho et al.,
    arXiv 1406.1078; applied to every cell of a grid in every step: the Neural GPU, Kaiser and
    Sutskever, arXiv 1511.08228). ``x`` are the channels that change. They stay between -1 and 1
    once they are there, so a state cannot overflow. ``Wn`` and ``Un`` start at zero: without a
    signal, nothing comes up, and what is there fades.

    Args:
        settings: ``model.cell.update``.
        shape: how many numbers a cell holds, sees and changes.
        keep: bias with which the gate ``z`` starts: 2 keeps 88 % of the state in a step.
    """

    def __init__(self, settings: UpdateSettings, shape: CellShape, *, keep: float = 2.0) -> None:
        super().__init__(settings, shape)
        count = shape.outputs
        self.gates = nn.Linear(settings.hidden, 3 * count)
        self.memory = nn.Linear(count, 3 * count, bias=False)
        with torch.no_grad():
            self.gates.weight[2 * count :] = 0
            self.memory.weight[2 * count :] = 0
            self.gates.bias.zero_()[count : 2 * count] = float(keep)
        self.working += 12 * count

    def forward(self, perceived: Tensor) -> Tensor:
        """See :meth:`UpdateRule.forward`."""
        state = self.own_state(perceived)
        new = F.linear(
            self.hidden_values(perceived), self.limited(self.gates.weight), self.gates.bias
        ).chunk(3, -1)
        old = F.linear(state, self.limited(self.memory.weight)).chunk(3, -1)
        reset, keep = torch.sigmoid(new[0] + old[0]), torch.sigmoid(new[1] + old[1])
        candidate = torch.tanh(new[2] + reset * old[2])
        return (1 - keep) * (candidate - state)


UPDATE_RULE = GruRule
