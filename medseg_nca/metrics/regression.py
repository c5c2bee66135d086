"""Metrics of dense real-valued predictions, of one case, over the voxels whose truth is known.

Absolute relative error and the shares within a factor are those of Eigen, Puhrsch and Fergus
(2014, arXiv 1406.2283); they are ratios, so they are defined only where every known truth is above
0. R2 is the coefficient of determination within the case, 1 - SS_residual / SS_total. Bias is the
mean of prediction minus truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Values = dict[str, float | None]
# A prediction counts if it is below the truth times the factor and above the truth over it.
FACTORS = {"delta1": 1.25, "delta2": 1.25**2, "delta3": 1.25**3}
# Voxels that are looked at in float64 at a time.
SLAB = 1 << 20


@dataclass(frozen=True)
class RealMetric:
    """How a metric is called and which way it is good; ``unit`` says that it has the target's."""

    title: str
    better: Literal["higher", "lower", "zero"]
    unit: bool = False


METRICS: Mapping[str, RealMetric] = {
    "rmse": RealMetric("RMSE", "lower", unit=True),
    "mae": RealMetric("MAE", "lower", unit=True),
    "bias": RealMetric("bias", "zero", unit=True),
    "r2": RealMetric("R2", "higher"),
    "abs_rel": RealMetric("abs rel", "lower"),
    "delta1": RealMetric("< 1.25", "higher"),
    "delta2": RealMetric("< 1.25^2", "higher"),
    "delta3": RealMetric("< 1.25^3", "higher"),
}


def real_metrics(predicted: NDArray[Any], truth: NDArray[Any], slab: int = SLAB) -> Values:
    """Compare two arrays of one shape.

    Args:
        predicted: finite numbers.
        truth: NaN where it is not known.
        slab: how many voxels are looked at in float64 at a time; it changes the memory that is
            needed and, but for rounding, no value.

    Returns:
        A value for each of :data:`METRICS`, and "voxels", how many are known. None where a metric
        is not defined: R2 of a constant truth, ratios of a truth that is 0 or below somewhere, and
        all where nothing is known.

    Raises:
        ValueError: if the shapes differ.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"shapes differ: {predicted.shape} and {truth.shape}")
    known = ~np.isnan(truth)
    found, true = predicted[known], truth[known]
    if not true.size:
        return {**dict.fromkeys(METRICS), "voxels": 0}
    middle = float(true.mean(dtype=np.float64))
    positive = bool(true.min() > 0)
    sums = np.zeros(4 + (1 + len(FACTORS)) * positive)
    for start in range(0, true.size, slab):
        part = slice(start, start + slab)
        sums += _sums(
            found[part].astype(np.float64), true[part].astype(np.float64), middle, positive
        )
    error, absolute, square, total = (float(v) for v in sums[:4] / true.size)
    values: Values = {
        "rmse": square**0.5,
        "mae": absolute,
        "bias": error,
        "r2": None if total == 0 else 1 - square / total,
        **dict.fromkeys(("abs_rel", *FACTORS)),
        "voxels": int(true.size),
    }
    if positive:
        shares = sums[4:] / true.size
        values |= {name: float(v) for name, v in zip(("abs_rel", *FACTORS), shares, strict=True)}
    return values


def constant_metrics(constant: float, truth: NDArray[Any]) -> Values:
    """As :func:`real_metrics`, of a prediction that is the same number in every voxel."""
    return real_metrics(np.broadcast_to(np.float64(constant), truth.shape), truth)


def _sums(
    found: NDArray[np.float64], true: NDArray[np.float64], middle: float, positive: bool
) -> NDArray[np.float64]:
    error = found - true
    size = np.abs(error)
    sums = [error.sum(), size.sum(), (error**2).sum(), ((true - middle) ** 2).sum()]
    if positive:
        # max(f / t, t / f) < factor, without a division by what may be 0 or below.
        within = [
            float(((found < factor * true) & (factor * found > true)).sum())
            for factor in FACTORS.values()
        ]
        sums += [(size / true).sum(), *within]
    return np.array(sums)


def mean_of(rows: Sequence[Values], metric: str) -> float | None:
    """Mean of a metric over cases, without those that have none; None if no case has one."""
    known = [v for row in rows if (v := row[metric]) is not None]
    return float(np.mean(known)) if known else None


def skill(errors: Sequence[float], constant: Sequence[float]) -> float:
    """One minus the ratio of a model's RMSE to that of a constant predictor (Murphy 1988).

    1 is perfect, 0 no better than the constant, below 0 worse.

    Args:
        errors: RMSE of each target.
        constant: of the constant predictor, above 0.

    Returns:
        The mean over the targets.
    """
    return float(np.mean([1 - own / other for own, other in zip(errors, constant, strict=True)]))
