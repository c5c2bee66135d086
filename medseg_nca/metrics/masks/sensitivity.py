"""Sensitivity: the share of the truth that was found."""

from __future__ import annotations

from medseg_nca.metrics.masks.base import Metric

METRIC = Metric("Sensitivity", lambda pair: pair.counts.sensitivity, order=5)
