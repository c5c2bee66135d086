"""Intervals and thresholds from pairs of predicted and true Dice that were not fitted on.

The interval is that of split conformal prediction (Lei et al., JASA 2018) with weights: residuals
of pairs whose predicted Dice is near count, because a mask of 0.9 is known better than one of 0.5
(localised conformal prediction, Guan, Biometrika 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.trust import GateSettings, TrustSection

Vector = NDArray[np.float64]

# Below this many cases the interval is widened, and results say so.
ENOUGH_CASES = 20
# Share of all pairs that lie within the width of the weights, and the least width.
_NEAR_SHARE, _LEAST_WIDTH = 0.1, 0.02
# Pairs further away than this many widths do not count.
_REACH = 2.0
# What clean images weigh together, as a share of all weights: most images are clean.
_CLEAN_SHARE = 0.5


@dataclass(frozen=True)
class Interval:
    """Where the true Dice probably lies."""

    low: float
    high: float


@dataclass(frozen=True)
class Thresholds:
    """Predicted Dice from which a mask is accepted, and below which it is rejected.

    ``accept`` is never below the acceptable Dice of the gate, and ``reject`` never above it.
    ``blind`` tells that the fit saw so few bad masks that no threshold is known to keep the miss
    rate; nothing is then accepted.
    """

    accept: float
    reject: float
    blind: bool = False


class Calibration:
    """What the pairs of a section say.

    Args:
        section: the section of a model.
    """

    def __init__(self, section: TrustSection) -> None:
        pairs = section.pairs
        order = np.argsort(np.array(pairs.predicted), kind="stable")
        self._predicted = np.array(pairs.predicted)[order]
        self._true = np.array(pairs.true)[order]
        clean = np.array(pairs.clean)[order]
        self._weight = _weights(clean)
        self._cases = section.cases
        self._confidence = section.confidence

    def interval(self, predicted: float) -> Interval:
        """Return the interval of the true Dice for a predicted Dice."""
        distance = np.abs(self._predicted - predicted)
        width = max(float(np.quantile(distance, _NEAR_SHARE)), _LEAST_WIDTH)
        near = distance <= _REACH * width
        weight = (self._weight * np.exp(-0.5 * (distance / width) ** 2))[near]
        residual = (self._true - self._predicted)[near]
        tail = (1 - self._confidence) / 2
        # Cases, not pairs, are independent, and weights leave fewer (Kish's effective size).
        # Of n values that are exchangeable with a new one, the k-th smallest lies above it with the
        # probability k / (n + 1); it is the one beyond the share (k - 1) / n.
        count = min(float(weight.sum() ** 2 / (weight**2).sum()), self._cases)
        share = max((tail * (count + 1) - 1) / count, 0.0)
        low, high = _quantile(residual, weight, share), _quantile(residual, weight, 1 - share)
        if self._cases < ENOUGH_CASES:
            pad = 0.5 / (self._cases + 1)
            low, high = min(low, 0.0) - pad, max(high, 0.0) + pad
        return Interval(
            float(np.clip(min(predicted + low, predicted), 0, 1)),
            float(np.clip(max(predicted + high, predicted), 0, 1)),
        )

    def thresholds(self, gate: GateSettings) -> Thresholds:
        """Return the thresholds that keep the miss rate of a gate on the pairs."""
        predicted, acceptable = self._predicted, gate.acceptable
        is_bad = self._true < acceptable
        bad, good = np.sort(predicted[is_bad])[::-1], np.sort(predicted[~is_bad])
        # Of n bad masks and a new one, each is as likely as the others to have the highest value.
        blind = gate.miss_rate * (len(bad) + 1) < 1
        accept = acceptable if blind else max(_above(bad, gate.miss_rate), acceptable)
        reject = float(good[int(gate.miss_rate * len(good))]) if len(good) else 0.0
        return Thresholds(accept, min(reject, acceptable), blind)


def _above(bad: Vector, rate: float) -> float:
    """Return the lowest threshold that at most a share of the bad masks reaches, one more counted.

    Args:
        bad: predicted Dice of bad masks, falling.
        rate: the share that may reach it.
    """
    allowed = int(np.floor(rate * (len(bad) + 1))) - 1
    return float(np.nextafter(bad[min(allowed, len(bad) - 1)], 2))


def _weights(clean: NDArray[np.bool_]) -> Vector:
    count, total = int(clean.sum()), len(clean)
    if count in (0, total):
        return np.ones(total)
    return np.where(clean, _CLEAN_SHARE / count, (1 - _CLEAN_SHARE) / (total - count)) * total


def _quantile(values: Vector, weight: Vector, share: float) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    place = int(np.searchsorted(reached, share * reached[-1]))
    return float(values[order[min(place, len(order) - 1)]])
