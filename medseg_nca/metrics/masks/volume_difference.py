"""Volume difference: volume of the prediction minus volume of the truth."""

from __future__ import annotations

from medseg_nca.metrics.masks.base import MaskPair, Metric


def _difference(pair: MaskPair) -> float:
    return (pair.counts.prediction - pair.counts.truth) * pair.voxel_size


METRIC = Metric("Volume difference", _difference, "mL", "zero", order=7)
