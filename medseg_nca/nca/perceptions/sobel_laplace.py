"""The filters of ``sobel`` and, after them, that of ``laplace``, of each channel."""

from __future__ import annotations

import torch

from medseg_nca.config.model import PerceptionSettings
from medseg_nca.nca.filters import for_each_channel, laplace_filter, sobel_filters
from medseg_nca.nca.perceptions.base import FilterPerception


class SobelLaplacePerception(FilterPerception):
    """Fixed filters (Self-Organising Textures, Niklasson et al., Distill 2021)."""

    def __init__(self, settings: PerceptionSettings, channels: int, dims: int) -> None:
        filters = torch.cat((sobel_filters(dims), laplace_filter(dims)))
        super().__init__(settings, channels, dims, for_each_channel(filters, channels))


PERCEPTION = SobelLaplacePerception
