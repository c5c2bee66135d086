"""OctreeNCA: five levels, each half the size of the next (arXiv 2508.06993)."""

from __future__ import annotations

from medseg_nca.config.model import NcaModelSettings
from medseg_nca.models.multilevel import MultiLevelNca


def build(settings: NcaModelSettings) -> MultiLevelNca:
    """Build the automaton of these settings; defaults: ``configs/model/octree_nca.yaml``."""
    return MultiLevelNca(settings)
