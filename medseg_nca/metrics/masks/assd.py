"""ASSD: the mean distance between the surfaces, over the surface voxels of both masks."""

from __future__ import annotations

import numpy as np

from medseg_nca.metrics.masks.base import MaskPair, Metric, for_both


def _assd(pair: MaskPair) -> float:
    return float(np.concatenate(pair.distances).mean())


METRIC = Metric("ASSD", for_both(_assd, missed=lambda pair: pair.diagonal), "mm", "lower", order=3)
