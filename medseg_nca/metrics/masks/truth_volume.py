"""Volume of the truth: a plain fact that is neither good nor bad."""

from __future__ import annotations

from medseg_nca.metrics.masks.base import Metric

METRIC = Metric(
    "True volume",
    lambda pair: pair.counts.truth * pair.voxel_size,
    "mL",
    better=None,
    order=10,
    in_report=False,
)
