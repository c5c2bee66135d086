"""Relative volume difference: the volume difference in relation to the volume of the truth."""

from __future__ import annotations

from medseg_nca.metrics.masks.base import Metric

METRIC = Metric(
    "Relative volume difference",
    lambda pair: pair.counts.relative_difference,
    better="zero",
    order=8,
    in_report=False,
)
