"""Derivative along each axis, smoothed along the others, of each channel."""

from __future__ import annotations

from medseg_nca.config.model import PerceptionSettings
from medseg_nca.nca.filters import for_each_channel, sobel_filters
from medseg_nca.nca.perceptions.base import FilterPerception


class SobelPerception(FilterPerception):
    """Fixed filters (Growing NCA, Mordvintsev et al., Distill 2020)."""

    def __init__(self, settings: PerceptionSettings, channels: int, dims: int) -> None:
        weight = for_each_channel(sobel_filters(dims), channels)
        super().__init__(settings, channels, dims, weight)


PERCEPTION = SobelPerception
