"""The sum of the second differences along every axis, of each channel."""

from __future__ import annotations

from medseg_nca.config.model import PerceptionSettings
from medseg_nca.nca.filters import for_each_channel, laplace_filter
from medseg_nca.nca.perceptions.base import FilterPerception


class LaplacePerception(FilterPerception):
    """Fixed filters (Growing NCA, Mordvintsev et al., Distill 2020)."""

    def __init__(self, settings: PerceptionSettings, channels: int, dims: int) -> None:
        weight = for_each_channel(laplace_filter(dims), channels)
        super().__init__(settings, channels, dims, weight)


PERCEPTION = LaplacePerception
