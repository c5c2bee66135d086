"""The seam of update rules: what a cell, the engines and the estimates ask of one.

An update rule is a class derived from :class:`UpdateRule`. One that has a first layer of hidden
values, with the settings ``hidden``, ``norm`` and ``activation``, derives from :class:`HiddenRule`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple

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


class CellShape(NamedTuple):
    """How many numbers a cell holds, sees and changes.

    Attributes:
        channels: of the state, those of the image included; the image comes first.
        image_channels: of the image, which never change.
        features: perceived values, besides the state.
        outputs: of the update rule: the channels that change, or all of them with the setting
            ``update_image``.
    """

    channels: int
    image_channels: int
    features: int
    outputs: int

    @property
    def inputs(self) -> int:
        """Numbers that the update rule reads: the state and what is perceived."""
        return self.channels + self.features


class TwoLayers(NamedTuple):
    """The weights of ``dx = w1 act(norm(w0 p + b0))``, as the compiled engines take them.

    Attributes:
        w0: ``(hidden, inputs)``.
        b0: ``(hidden,)``.
        w1: ``(outputs, hidden)``.
        scale: ``(hidden,)`` of the norm; None without a norm.
        shift: ``(hidden,)`` of a batch norm; None without one.
    """

    w0: Tensor
    b0: Tensor
    w1: Tensor
    scale: Tensor | None
    shift: Tensor | None


class UpdateRule(nn.Module):
    """By how much each cell changes, from what it holds and perceives; each cell on its own.

    Keyword-only arguments of a derived class are its ``params`` in the settings; it raises
    ``ValueError`` for a value that cannot be.

    Args:
        settings: ``model.cell.update``.
        shape: how many numbers a cell holds, sees and changes.

    Attributes:
        reads: which of the settings ``hidden``, ``norm``, ``activation`` and ``spectral_norm`` the
            class reads; others are refused, but for ``hidden``, which the recipe decides.
        local: whether a cell's change depends on that cell alone.
        two_layers: whether :meth:`layers` says all that the rule does.
        working: numbers that a cell that fires takes while this is computed, beside what it reads
            and its change. A training step keeps as many.
    """

    reads: ClassVar[frozenset[str]] = frozenset()
    local: bool = True
    two_layers: bool = False
    working: int = 0

    def __init__(self, settings: UpdateSettings, shape: CellShape) -> None:
        super().__init__()
        self.settings, self.shape = settings, shape

    def forward(self, perceived: Tensor) -> Tensor:
        """Map ``(cells, inputs)``, the state before what is perceived, to ``(cells, outputs)``."""
        raise NotImplementedError

    def layers(self) -> TwoLayers:
        """Return the weights of a rule of two layers, in the graph of its parameters."""
        raise NotImplementedError(f"{type(self).__name__} is no rule of two layers")

    def own_state(self, perceived: Tensor) -> Tensor:
        """Return the channels of the state that the outputs belong to, ``(cells, outputs)``."""
        return perceived[:, self.shape.channels - self.shape.outputs : self.shape.channels]

    @property
    def flop(self) -> float:
        """Floating-point operations of a cell that fires; here two for each number of a matrix."""
        return 2.0 * sum(w.numel() for w in self.parameters() if w.ndim > 1)


class HiddenRule(UpdateRule):
    """A rule that begins with hidden values, ``act(norm(W0 p + b0))``.

    norm: "rms" scales the hidden values of a cell by their root mean square, "batch" uses the
    statistics of the cells that fire. spectral_norm: see :meth:`limited`.
    """

    reads = frozenset({"hidden", "norm", "activation", "spectral_norm"})

    def __init__(self, settings: UpdateSettings, shape: CellShape) -> None:
        super().__init__(settings, shape)
        self.hidden = nn.Linear(shape.inputs, settings.hidden)
        self.scale: nn.Parameter | None = None
        self.shift: nn.Parameter | None = None
        if settings.norm != "none":
            self.scale = nn.Parameter(torch.ones(settings.hidden))
        if settings.whole_grid:
            self.shift = nn.Parameter(torch.zeros(settings.hidden))
        self.local = not settings.whole_grid
        self.working = 2 * settings.hidden

    def hidden_values(self, perceived: Tensor) -> Tensor:
        """Map ``(cells, inputs)`` to ``(cells, hidden)``."""
        weight = self.limited(self.hidden.weight)
        hidden = self._norm(F.linear(perceived, weight, self.hidden.bias))
        return ACTIVATIONS[self.settings.activation](hidden)

    def limited(self, weight: Tensor) -> Tensor:
        """Return a matrix as the rule multiplies by it.

        With ``spectral_norm`` it is divided by its largest singular value where that is above 1, so
        that no matrix makes a difference between two cells larger (Miyato et al., arXiv 1802.05957,
        who divide always; a matrix that starts at zero needs the bound of Gouk et al., arXiv
        1804.04368). The singular value is exact, not one of a power iteration, which would change
        from call to call.
        """
        if not self.settings.spectral_norm:
            return weight
        largest: Tensor = torch.linalg.matrix_norm(weight, 2)
        return weight / largest.clamp_min(1.0)

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
