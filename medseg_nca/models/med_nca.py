"""Med-NCA: two levels, the fine one trained on patches (Kalkhof et al. 2023, arXiv 2302.03473)."""

from __future__ import annotations

from medseg_nca.config.model import NcaModelSettings
from medseg_nca.models.multilevel import MultiLevelNca


def build(settings: NcaModelSettings) -> MultiLevelNca:
    """Build the automaton of these settings; defaults: ``configs/model/med_nca.yaml``."""
    return MultiLevelNca(settings)
