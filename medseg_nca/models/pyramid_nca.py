"""Our own automaton: a pyramid with own weights a level, a head on all hidden channels.

What differs from M3D-NCA: no batch statistics (the result does not depend on the crop), zero
padding (cells know the border), the global mean of a level handed to the next, levels from the
data's plan, and losses on every level.
"""

from __future__ import annotations

from medseg_nca.config.model import NcaModelSettings
from medseg_nca.models.multilevel import MultiLevelNca


def build(settings: NcaModelSettings) -> MultiLevelNca:
    """Build the automaton of these settings; defaults: ``configs/model/pyramid_nca.yaml``."""
    return MultiLevelNca(settings)
