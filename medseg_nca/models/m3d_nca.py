"""M3D-NCA: n levels in 3D, kernel 7 where coarse (Kalkhof et al. 2023, arXiv 2309.02954)."""

from __future__ import annotations

from medseg_nca.config.model import NcaModelSettings
from medseg_nca.models.multilevel import MultiLevelNca


def build(settings: NcaModelSettings) -> MultiLevelNca:
    """Build the automaton of these settings; defaults: ``configs/model/m3d_nca.yaml``."""
    return MultiLevelNca(settings)
