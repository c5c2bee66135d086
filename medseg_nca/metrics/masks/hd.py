"""HD: the largest distance from a surface voxel of one mask to the surface of the other."""

from __future__ import annotations

from medseg_nca.metrics.masks.base import MaskPair, Metric, for_both


def _hd(pair: MaskPair) -> float:
    return float(max(distances.max() for distances in pair.distances))


METRIC = Metric("HD", for_both(_hd, missed=lambda pair: pair.diagonal), "mm", "lower", order=2)
