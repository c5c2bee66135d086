"""NSD: the share of both surfaces that lies within the tolerance of the other (Nikolov 2021)."""

from __future__ import annotations

from medseg_nca.metrics.masks.base import MaskPair, Metric, for_both

# Spacings come from affines in single precision: a distance that equals the tolerance on paper may
# lie above it by this fraction.
_ROUNDING = 1e-5


def _nsd(pair: MaskPair) -> float:
    """Share of the area, in 2D of the length; the tolerance itself counts as within."""
    areas, distances = pair.areas_and_distances
    within = distances <= pair.tolerance * (1 + _ROUNDING)
    return float(areas[within].sum() / areas.sum())


METRIC = Metric("NSD", for_both(_nsd, missed=lambda pair: 0.0), order=4)
