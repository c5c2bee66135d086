"""From the metrics of the cases to the numbers that are reported.

The tree is what ``metrics.json`` holds; :func:`table_rows` is ``metrics.csv``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.training import EvaluationSettings
from medseg_nca.metrics.definitions import MERGED, METRICS, Values, rules

FloatArray = NDArray[np.float64]
Tree = dict[str, Any]


@dataclass(frozen=True)
class CaseResult:
    """One evaluated case.

    Attributes:
        id: of the case.
        values: what :func:`medseg_nca.metrics.segmentation.case_metrics` returned.
        facts: anything else worth keeping with it, such as seconds.
    """

    id: str
    values: Mapping[str, Values]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mean_dice(self) -> float | None:
        """Mean over the labels that truth or prediction have; None if there is none."""
        known = [v["dice"] for name, v in self.values.items() if name != MERGED]
        numbers = [v for v in known if v is not None]
        return sum(numbers) / len(numbers) if numbers else None


def summarise(cases: Sequence[CaseResult], settings: EvaluationSettings, *, seed: int = 0) -> Tree:
    """Bring the results of all cases into the tree of ``metrics.json``.

    Confidence intervals are percentile intervals of the mean over resampled cases (Efron 1979):
    they tell how far the mean would move with other cases, not with another training.

    Args:
        cases: at least one; all with the same labels.
        settings: tolerance, number of resamples and confidence.
        seed: of the resampling.

    Returns:
        ``mean_dice`` (the mean over the labels of their mean Dice) and its interval, ``labels`` and
        ``merged`` with mean, median, sd, interval and n of every metric, ``cases``, and the rules.
        The interval's key carries the confidence: ``ci95``.
    """
    names = [name for name in cases[0].values if name != MERGED]
    weights = _resamples(len(cases), settings.bootstrap, seed)
    key = interval_key(settings.confidence)

    def part(label: str) -> Tree:
        tree = {m: _describe(_column(cases, label, m), weights, settings) for m in METRICS}
        return {**tree, "presence": _presence(cases, label)}

    dice = np.stack([_column(cases, name, "dice") for name in names], axis=1)
    return {
        "mean_dice": _number(_mean(_mean(dice))),
        f"mean_dice_{key}": _interval(dice, weights, settings),
        "tolerance_mm": settings.nsd_tolerance,
        "confidence": settings.confidence,
        "labels": {name: part(name) for name in names},
        "merged": part(MERGED),
        "cases": [_case_tree(case, names) for case in cases],
        "rules": rules(),
    }


def interval_key(confidence: float) -> str:
    """The key of an interval: 0.95 gives ``ci95``."""
    return f"ci{100 * confidence:g}"


def table_rows(cases: Sequence[CaseResult]) -> list[dict[str, Any]]:
    """One row for each case and label, ``merged`` among them; a missing value is None."""
    return [
        {"case": case.id, "label": label, **{m: values[m] for m in METRICS}, **case.facts}
        for case in cases
        for label, values in case.values.items()
    ]


def bootstrap_interval(
    values: FloatArray, *, resamples: int, confidence: float, seed: int = 0
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of a mean over cases.

    Args:
        values: ``(cases,)``, or ``(cases, labels)`` for the mean over labels of their means; NaN
            where there is no value.
        resamples: how often the cases are drawn anew.
        confidence: for example 0.95.
        seed: of the drawing.

    Returns:
        Low and high, None with fewer than two cases or no resamples.
    """
    weights = _resamples(len(values), resamples, seed)
    return _percentiles(values, weights, confidence)


def _case_tree(case: CaseResult, names: Sequence[str]) -> Tree:
    return {
        "id": case.id,
        **case.facts,
        "mean_dice": _number(case.mean_dice),
        "labels": {name: _rounded(case.values[name]) for name in names},
        "merged": _rounded(case.values[MERGED]),
    }


def _rounded(values: Values) -> Values:
    return {name: _number(value) for name, value in values.items()}


def _column(cases: Sequence[CaseResult], label: str, metric: str) -> FloatArray:
    """``(cases,)``, NaN where the value is None."""
    values = (case.values[label][metric] for case in cases)
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)


def _presence(cases: Sequence[CaseResult], label: str) -> dict[str, int]:
    """In how many cases truth and prediction have the label, one of them, or neither."""
    pairs = [(case.values[label]["truth_volume"], case.values[label]["volume"]) for case in cases]
    there = [(bool(truth), bool(found)) for truth, found in pairs]
    return {
        "both": there.count((True, True)),
        "truth_only": there.count((True, False)),
        "prediction_only": there.count((False, True)),
        "neither": there.count((False, False)),
    }


def _describe(values: FloatArray, weights: FloatArray, settings: EvaluationSettings) -> Tree:
    known = values[~np.isnan(values)]
    return {
        "mean": _number(known.mean() if known.size else None),
        "median": _number(np.median(known) if known.size else None),
        "sd": _number(known.std(ddof=1) if known.size > 1 else None),
        interval_key(settings.confidence): _interval(values, weights, settings),
        "n": int(known.size),
    }


def _interval(
    values: FloatArray, weights: FloatArray, settings: EvaluationSettings
) -> list[float | None] | None:
    found = _percentiles(values, weights, settings.confidence)
    return None if found is None else [_number(limit) for limit in found]


def _resamples(cases: int, count: int, seed: int) -> FloatArray:
    """``(count, cases)``: how often each case is drawn. One set serves every metric."""
    draws = np.random.default_rng(seed).multinomial(cases, [1 / cases] * cases, size=count)
    return draws.astype(np.float64)


def _percentiles(
    values: FloatArray, weights: FloatArray, confidence: float
) -> tuple[float, float] | None:
    known = ~np.isnan(values)
    if not len(weights) or np.count_nonzero(known.reshape(len(values), -1).any(axis=1)) < 2:
        return None
    with np.errstate(invalid="ignore"):  # 0 / 0: a resample without any case that has a value
        means = (weights @ np.where(known, values, 0.0)) / (weights @ known.astype(np.float64))
    means = _mean(means.T) if means.ndim == 2 else means
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _mean(values: FloatArray) -> Any:
    """Mean over the first axis without the NaNs; NaN where there is nothing, without a warning."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)


def _number(value: Any) -> float | None:
    """A plain number for JSON with 6 digits after the point; further digits would be noise."""
    return None if value is None or math.isnan(value) else round(float(value), 6)
