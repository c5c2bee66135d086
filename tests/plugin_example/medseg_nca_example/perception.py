"""A perception: the mean of a cell's neighbourhood, channel by channel."""

from __future__ import annotations

import torch

from medseg_nca.config.model import PerceptionSettings
from medseg_nca.nca.filters import for_each_channel
from medseg_nca.nca.perceptions.base import FilterPerception


class MeanPerception(FilterPerception):
    """Fixed filters, so the compiled engines compute it too."""

    def __init__(
        self, settings: PerceptionSettings, channels: int, dims: int, *, width: int = 3
    ) -> None:
        if width % 2 == 0:
            raise ValueError(f"width must be odd, got {width}")
        mean = torch.full((1, *(width,) * dims), float(width) ** -dims)
        super().__init__(settings, channels, dims, for_each_channel(mean, channels))


PERCEPTION = MeanPerception
