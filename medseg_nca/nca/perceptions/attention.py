"""Attention of each cell to its neighbours."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg_nca.config.model import PerceptionSettings
from medseg_nca.nca.perceptions.base import Perception
from medseg_nca.nca.window import cut

_MOST_HEADS, _MOST_WIDTH = 64, 256
# Cells that one looks at; more than 7 an axis in 3D take longer than any number of steps is worth.
_MOST_NEAR = 7**3


class AttentionPerception(Perception):
    """Each cell attends to the ``kernel`` ^ d cells around it, itself included, by several heads.

    The localised self-attention of Vision Transformer Cellular Automata (Tesfaldet et al.,
    Attention-based Neural Cellular Automata, arXiv 2211.01233), without that paper's positional
    encoding of the whole grid: here each head has a learned bias for each offset (as in Swin, Liu
    et al., arXiv 2103.14030), so that no cell knows where it is. The state is normalised over the
    channels before it is projected (layer norm), as in the paper. With ``padding: zero`` a cell at
    the border attends to the neighbours that exist.

    Args:
        settings: ``model.cell.perception``; ``kernel`` is the width of the neighbourhood.
        channels: number of channels of the state.
        dims: number of spatial axes.
        heads: number of heads.
        width: numbers of a query, a key and a value of a head.
    """

    reads = frozenset({"kernel"})

    def __init__(
        self,
        settings: PerceptionSettings,
        channels: int,
        dims: int,
        *,
        heads: int = 4,
        width: int = 4,
    ) -> None:
        super().__init__(settings, channels, dims)
        for name, value, most in (("heads", heads, _MOST_HEADS), ("width", width, _MOST_WIDTH)):
            if not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"{name} must be a number from 1 to {most}, got {value!r}")
        near = settings.kernel**dims
        if near > _MOST_NEAR:
            raise ValueError(f"kernel {settings.kernel} is {near} cells, at most {_MOST_NEAR}")
        self.heads, self.width = heads, width
        self.norm = nn.LayerNorm(channels)
        # A bias of the keys would have no effect, and the update rule has one for the values.
        self.project = nn.Linear(channels, 3 * heads * width, bias=False)
        self.position = nn.Parameter(torch.zeros(near, heads))
        self.radius = settings.kernel // 2
        self.features = heads * width
        self.working = channels + 8 * self.features + 3 * near * heads
        self.kept = channels + 5 * self.features + near * heads + -(-near // 4)

    def forward(self, state: Tensor) -> Tensor:
        """See :meth:`Perception.forward`."""
        query, key, value = self.project(self.norm(state)).chunk(3, -1)
        query = query * self.width**-0.5
        key, value = self.padded(key, self.radius), self.padded(value, self.radius)
        outside = self._outside(state)
        size = state.shape[1:-1]
        offsets = list(product(range(2 * self.radius + 1), repeat=self.dims))

        def near(x: Tensor, offset: tuple[int, ...]) -> Tensor:
            """The neighbours of all cells in one direction, ``(..., *spatial, n)``."""
            window = (slice(o, o + n) for o, n in zip(offset, size, strict=True))
            return cut(x.movedim(-1, 1), window).movedim(1, -1)

        scores = []
        for offset, bias in zip(offsets, self.position, strict=True):
            score = self._apart(query * near(key, offset)).sum(-1) + bias
            if outside is not None:
                score = score.masked_fill(near(outside, offset), -torch.inf)
            scores.append(score)
        shares = torch.stack(scores, -1).softmax(-1).unbind(-1)
        seen = torch.zeros_like(self._apart(query))
        for offset, share in zip(offsets, shares, strict=True):
            seen = seen + share.unsqueeze(-1) * self._apart(near(value, offset))
        return seen.flatten(-2)

    def _apart(self, x: Tensor) -> Tensor:
        """The heads apart: ``(..., heads, width)``."""
        return x.view(*x.shape[:-1], self.heads, self.width)

    def _outside(self, state: Tensor) -> Tensor | None:
        """Which cells of the padded grid do not exist, bool ``(1, *padded, 1)``; None if all do."""
        if self.settings.padding != "zero" or not self.radius:
            return None
        grid = torch.zeros(1, *state.shape[1:-1], 1, dtype=torch.bool, device=state.device)
        return F.pad(grid, (0, 0, *(self.radius,) * 2 * self.dims), value=True)

    @property
    def flop(self) -> float:
        """See :attr:`Perception.flop`; that of the products of queries, keys and values, too."""
        return super().flop + 4.0 * len(self.position) * self.features


PERCEPTION = AttentionPerception
