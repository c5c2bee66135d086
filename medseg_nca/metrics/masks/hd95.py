"""HD95: the larger of the 95th percentiles of the distances in both directions."""

from __future__ import annotations

import numpy as np

from medseg_nca.metrics.masks.base import MaskPair, Metric, for_both


def _hd95(pair: MaskPair) -> float:
    """Percentiles by linear interpolation."""
    return float(max(np.percentile(distances, 95) for distances in pair.distances))


METRIC = Metric("HD95", for_both(_hd95, missed=lambda pair: pair.diagonal), "mm", "lower", order=1)
