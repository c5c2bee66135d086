"""Several perceptions side by side, such as derivative filters and learned ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg_nca.config.loading import validate
from medseg_nca.config.model import PerceptionSettings
from medseg_nca.nca.parts import make_perception
from medseg_nca.nca.perceptions.base import FilterBank, Perception

_WHERE = "cell.perception.params.parts"
_MOST = 16


class ConcatPerception(Perception):
    """What several perceptions see of the same state, joined.

    The perception of Growing NCA (Mordvintsev et al., Distill 2020) joins two Sobel filters with
    the state; with ``parts: [sobel, laplace, depthwise]`` it has a Laplace filter (Self-Organising
    Textures, Niklasson et al., Distill 2021) and a learned one, too. Parts that are banks of
    filters with channels apart and one dilation are one larger bank, in which the filters of a
    channel lie side by side and small kernels are filled up with zeros; the compiled engines
    compute that bank.

    Args:
        settings: ``model.cell.perception``; its padding and bias are those of every part.
        channels: number of channels of the state.
        dims: number of spatial axes.
        parts: of each part its kind, or its settings as ``model.cell.perception`` has them.
    """

    def __init__(
        self,
        settings: PerceptionSettings,
        channels: int,
        dims: int,
        *,
        parts: Sequence[str | Mapping[str, Any]],
    ) -> None:
        super().__init__(settings, channels, dims)
        if isinstance(parts, str | Mapping) or not 1 <= len(parts) <= _MOST:
            raise ValueError(f"parts must be a list of 1 to {_MOST} perceptions")
        self.parts = nn.ModuleList(
            make_perception(_part(settings, part, index), channels, dims)
            for index, part in enumerate(parts)
        )
        found = self._parts()
        self.local = all(part.local for part in found)
        self.radius = max(part.radius for part in found)
        self.features = sum(part.features for part in found)
        self.working = max(part.working for part in found) + self.features
        self.kept = sum(part.kept for part in found)
        banks = [part.bank for part in found if part.bank is not None and not part.bank.mixes]
        if len(banks) == len(found) and len({bank.dilation for bank in banks}) == 1:
            self.bank = FilterBank(max(b.kernel for b in banks), False, banks[0].dilation)

    def forward(self, state: Tensor) -> Tensor:
        """See :meth:`Perception.forward`."""
        seen: list[Tensor] = [part(state) for part in self.parts]
        if self.bank is None:
            return torch.cat(seen, -1)
        # The filters of a channel side by side, as in a bank.
        apart = [y.reshape(*y.shape[:-1], self.channels, -1) for y in seen]
        return torch.cat(apart, -1).flatten(-2)

    def filters(self) -> tuple[Tensor, Tensor | None]:
        """See :meth:`Perception.filters`."""
        if self.bank is None:
            return super().filters()
        weights, biases, some = [], [], False
        for part in self._parts():
            weight, bias = part.filters()
            fill = (self.bank.kernel - weight.shape[-1]) // 2
            weight = F.pad(weight, (fill,) * 2 * self.dims)
            weights.append(weight.reshape(self.channels, -1, *weight.shape[1:]))
            some = some or bias is not None
            bias = weight.new_zeros(len(weight)) if bias is None else bias
            biases.append(bias.view(self.channels, -1))
        joined = torch.cat(weights, 1).flatten(0, 1)
        return joined, torch.cat(biases, 1).flatten() if some else None

    @property
    def flop(self) -> float:
        """See :attr:`Perception.flop`."""
        return sum(part.flop for part in self._parts())

    def _parts(self) -> list[Perception]:
        return [part for part in self.parts if isinstance(part, Perception)]


def _part(
    settings: PerceptionSettings, part: str | Mapping[str, Any], index: int
) -> PerceptionSettings:
    tree = {"kind": part} if isinstance(part, str) else part
    shared = {"padding": settings.padding, "bias": settings.bias}
    if isinstance(tree, Mapping):
        if twice := sorted(shared.keys() & tree.keys()):
            raise ValueError(f"part {index} sets {twice[0]}, which all parts share")
        tree = {**shared, **tree}
    return validate(PerceptionSettings, tree, source=f"{_WHERE}.{index}")


PERCEPTION = ConcatPerception
