"""Volume of the prediction: a plain fact that is neither good nor bad."""

from __future__ import annotations

from medseg_nca.metrics.masks.base import Metric

METRIC = Metric(
    "Predicted volume",
    lambda pair: pair.counts.prediction * pair.voxel_size,
    "mL",
    better=None,
    order=9,
    in_report=False,
)
