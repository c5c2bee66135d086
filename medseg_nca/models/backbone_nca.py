"""One level at full resolution (Growing NCA, Distill 2020; the segmentation NCA of NCALab)."""

from __future__ import annotations

from medseg_nca.config.model import NcaModelSettings
from medseg_nca.models.multilevel import MultiLevelNca


def build(settings: NcaModelSettings) -> MultiLevelNca:
    """Build the automaton of these settings; defaults: ``configs/model/backbone_nca.yaml``."""
    return MultiLevelNca(settings)
