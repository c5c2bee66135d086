"""A metric: the Jaccard index, the intersection of both masks in relation to their union."""

from __future__ import annotations

from medseg_nca.metrics.masks.base import MaskPair, Metric


def _jaccard(pair: MaskPair) -> float | None:
    """Return None if both masks are empty."""
    both = pair.counts.both
    union = pair.counts.prediction + pair.counts.truth - both
    return both / union if union else None


METRIC = Metric("Jaccard", _jaccard, rule="0 if only one of the two has the label.")
