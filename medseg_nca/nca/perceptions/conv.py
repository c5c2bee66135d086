"""``filters`` learned full convolutions of size ``kernel``, channels mixed."""

from __future__ import annotations

from medseg_nca.config.model import PerceptionSettings
from medseg_nca.nca.filters import learned_filters
from medseg_nca.nca.perceptions.base import FilterPerception


class ConvolutionPerception(FilterPerception):
    """Learned filters that each read all channels (Med-NCA, arXiv 2302.03473)."""

    reads = frozenset({"kernel", "filters"})

    def __init__(self, settings: PerceptionSettings, channels: int, dims: int) -> None:
        weight, bias = learned_filters(settings, channels, channels, dims)
        super().__init__(settings, channels, dims, weight, bias, mixes=True)


PERCEPTION = ConvolutionPerception
