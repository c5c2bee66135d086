"""How good estimates of quality are: numbers that compare scores of masks with their true Dice.

A score says how good a mask probably is; higher means better. It need not be a Dice, except for
the mean absolute error and the coverage. All functions take arrays ``(n,)`` of finite numbers;
:func:`known_pairs` leaves out what is None or NaN. Masks of equal score have no order: what depends
on an order is its expected value when such masks are put in random order, so that the order of the
input never matters.

Sources: risk, coverage and their curve as in Geifman and El-Yaniv, "Selective classification for
deep neural networks" (2017); the excess over the best order as in Geifman, Uziel and El-Yaniv,
"Bias-reduced uncertainty estimation for deep neural classifiers" (2019). The risk of a mask is
1 - Dice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import roc_auc_score

from medseg_nca.config.trust import GateSettings

Values = NDArray[np.float64]


@dataclass(frozen=True)
class RiskCoverage:
    """The risk of the masks that are kept when the worst by score are left out.

    Attributes:
        coverage: shares of the masks that are kept, ``1/n, 2/n, ..., 1``.
        risk: mean of 1 - Dice over the masks that are kept, for each coverage.
    """

    coverage: Values
    risk: Values

    @property
    def area(self) -> float:
        """The area under the curve (AURC): the mean of the risks over all coverages."""
        return float(self.risk.mean())


@dataclass(frozen=True)
class SelectiveRisk:
    """How well a score sorts masks.

    Attributes:
        aurc: area under the curve of risk and coverage; lower is better.
        best: the least area that any score can have: that of the true Dice.
        random: the expected area of a random order, which is the mean risk.
    """

    aurc: float
    best: float
    random: float

    @property
    def excess(self) -> float:
        """E-AURC: what the area has above the least possible."""
        return self.aurc - self.best

    @property
    def normalised(self) -> float | None:
        """nAURC: the excess against that of a random order: 0 is the best order, 1 is chance.

        It is None if all masks are equally good, because every order is then the best.
        """
        span = self.random - self.best
        return self.excess / span if span > 1e-12 else None


def known_pairs(
    scores: Sequence[float | None], truth: Sequence[float | None]
) -> tuple[Values, Values]:
    """Return scores and true values as arrays, without the pairs in which one is None or NaN."""
    pairs = np.array([scores, truth], dtype=np.float64).reshape(2, -1)
    kept = pairs[:, ~np.isnan(pairs).any(axis=0)]
    return kept[0], kept[1]


def spearman(scores: ArrayLike, dice: ArrayLike) -> float | None:
    """Return Spearman's rank correlation; None for fewer than two values, or if one is constant."""
    return _correlation(spearmanr, *_checked(scores, dice))


def pearson(scores: ArrayLike, dice: ArrayLike) -> float | None:
    """Return Pearson's correlation; None for fewer than two values, or if one is constant."""
    return _correlation(pearsonr, *_checked(scores, dice))


def mean_absolute_error(predicted: ArrayLike, dice: ArrayLike) -> float | None:
    """Return the mean of ``|predicted - true|``; None without values."""
    found, true = _checked(predicted, dice)
    return float(np.abs(found - true).mean()) if len(true) else None


def interval_coverage(low: ArrayLike, high: ArrayLike, dice: ArrayLike) -> float | None:
    """Return the share of true values within their interval, ends included; None without values."""
    lows, true = _checked(low, dice)
    highs, _ = _checked(high, dice)
    return float(((lows <= true) & (true <= highs)).mean()) if len(true) else None


def auroc_of_bad(
    scores: ArrayLike, dice: ArrayLike, acceptable: float = GateSettings().acceptable
) -> float | None:
    """Return how well a low score tells bad masks: the area under the ROC curve.

    It is the probability that a bad mask has a lower score than a good one, ties counting half.

    Args:
        scores: higher means better.
        dice: true Dice.
        acceptable: a mask with a Dice below it is bad.

    Returns:
        None if there are no bad masks, or no good ones.
    """
    found, true = _checked(scores, dice)
    bad = true < acceptable
    return float(roc_auc_score(bad, -found)) if bad.any() and not bad.all() else None


def risk_coverage(scores: ArrayLike, dice: ArrayLike) -> RiskCoverage:
    """Return the curve of risk and coverage; masks of the highest scores are kept longest.

    Within masks of equal score, the expected risk of a random order is taken: each then has the
    mean risk of all of them.

    Raises:
        ValueError: if there are no values.
    """
    found, true = _checked(scores, dice)
    if not len(true):
        raise ValueError("risk_coverage: there are no values")
    # The second key makes sums independent of the order of the input, to the last bit.
    order = np.lexsort((true, -found))
    found, risk = found[order], 1 - true[order]
    starts = np.flatnonzero(np.concatenate([[True], found[1:] != found[:-1]]))
    sizes = np.diff([*starts, len(found)])
    shared = np.repeat(np.add.reduceat(risk, starts) / sizes, sizes)
    counts = np.arange(1, len(found) + 1)
    return RiskCoverage(counts / len(found), np.cumsum(shared) / counts)


def selective_risk(scores: ArrayLike, dice: ArrayLike) -> SelectiveRisk | None:
    """Return the area under the curve of risk and coverage beside its bounds; None without values.

    Args:
        scores: higher means better.
        dice: true Dice.
    """
    found, true = _checked(scores, dice)
    if not len(true):
        return None
    curve = risk_coverage(found, true)
    return SelectiveRisk(curve.area, risk_coverage(true, true).area, float(curve.risk[-1]))


def _checked(first: ArrayLike, second: ArrayLike) -> tuple[Values, Values]:
    """Return both as arrays ``(n,)``.

    Raises:
        ValueError: if they have other shapes, or hold NaN or infinity.
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.ndim != 1 or one.shape != two.shape:
        raise ValueError(f"scores and truth must be lists of one length: {one.shape}, {two.shape}")
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise ValueError("scores and truth must be finite; known_pairs leaves out None and NaN")
    return one, two


def _correlation(measure: Any, scores: Values, dice: Values) -> float | None:
    if len(dice) < 2 or np.ptp(scores) == 0 or np.ptp(dice) == 0:
        return None
    value = float(measure(scores, dice).statistic)
    return value if np.isfinite(value) else None
