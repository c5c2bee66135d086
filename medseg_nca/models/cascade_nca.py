"""A cascade of scales 8, 4, 2, 1 that share one set of weights (NCALab)."""

from __future__ import annotations

from medseg_nca.config.model import NcaModelSettings
from medseg_nca.models.multilevel import MultiLevelNca


def build(settings: NcaModelSettings) -> MultiLevelNca:
    """Build the automaton of these settings; defaults: ``configs/model/cascade_nca.yaml``."""
    return MultiLevelNca(settings)
