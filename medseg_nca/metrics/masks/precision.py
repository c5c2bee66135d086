"""Precision: the share of the prediction that is right."""

from __future__ import annotations

from medseg_nca.metrics.masks.base import Metric

METRIC = Metric("Precision", lambda pair: pair.counts.precision, order=6)
