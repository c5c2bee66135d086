"""Dice: the overlap of both masks in relation to their sizes."""

from __future__ import annotations

from medseg_nca.metrics.masks.base import Metric

METRIC = Metric("Dice", lambda pair: pair.counts.dice, order=0)
