"""``filters`` learned filters of size ``kernel`` for each channel, channels apart."""

from __future__ import annotations

from medseg_nca.config.model import PerceptionSettings
from medseg_nca.nca.filters import learned_filters
from medseg_nca.nca.perceptions.base import FilterPerception


class DepthwisePerception(FilterPerception):
    """Learned filters of each channel alone (M3D-NCA, arXiv 2309.02954)."""

    reads = frozenset({"kernel", "filters"})

    def __init__(self, settings: PerceptionSettings, channels: int, dims: int) -> None:
        super().__init__(settings, channels, dims, *learned_filters(settings, channels, 1, dims))


PERCEPTION = DepthwisePerception
