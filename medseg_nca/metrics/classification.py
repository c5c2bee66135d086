"""How good probabilities of classes are, with confidence intervals over the images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from medseg_nca.config.training import EvaluationSettings
from medseg_nca.metrics.summary import bootstrap_interval, interval_key

Truth = NDArray[np.int64]
Chances = NDArray[np.float64]
Tree = dict[str, Any]

BINS = 10
# A probability of 0 would make a mistake infinitely bad.
SMALLEST = 1e-7
# Values of resamples that are held at a time.
_MOST_WEIGHTS = 2**24


def summarise(
    truth: Truth, chances: Chances, classes: Sequence[str], settings: EvaluationSettings
) -> Tree:
    """Measure the answers to a set of images.

    Confidence intervals are percentile intervals over resampled images, as for segmentation.

    Args:
        truth: number of the class of each image, ``(n,)``, at least one.
        chances: probabilities ``(n, K)``; rows have a sum of 1.
        classes: names of the K classes.
        settings: number of resamples and confidence.

    Returns:
        ``accuracy``, ``balanced_accuracy`` (mean sensitivity of the classes that occur), ``auroc``
        (one class against the rest, mean over the classes that occur), ``log_loss``, ``brier`` (sum
        over classes), each with its interval under ``NAME_ci95``; ``ece`` (expected calibration
        error of the most probable class, ten bins of equal width); ``classes`` with n, sensitivity,
        precision, f1 and auroc of each; ``confusion`` (rows are the truth) and ``reliability``.
        None where a number is not defined.
    """
    found = chances.argmax(1)
    hits = found == truth
    hot = np.eye(len(classes))[truth]
    by_class = np.where(hot > 0, hits[:, None], np.nan)
    columns = {
        "accuracy": hits.astype(np.float64),
        "balanced_accuracy": by_class[:, hot.any(0)],
        "log_loss": log_losses(truth, chances),
        "brier": ((chances - hot) ** 2).sum(1),
    }
    key = interval_key(settings.confidence)
    tree: Tree = {}
    for name, values in columns.items():
        tree[name] = _number(np.nanmean(values, axis=0).mean())
        tree[f"{name}_{key}"] = _ends(
            bootstrap_interval(values, resamples=settings.bootstrap, confidence=settings.confidence)
        )
    areas = class_aurocs(truth, chances)
    tree["auroc"] = _mean(areas)
    tree[f"auroc_{key}"] = _auroc_interval(truth, chances, settings)
    tree["reliability"] = reliability(hits, chances.max(1))
    tree["ece"] = calibration_error(hits, chances.max(1))
    tree["classes"] = _class_rows(truth, found, areas, classes)
    tree["confusion"] = confusion_matrix(truth, found, labels=range(len(classes))).tolist()
    tree["confidence"] = settings.confidence
    return tree


def log_losses(truth: Truth, chances: Chances) -> NDArray[np.float64]:
    """Minus the logarithm of the true class's probability, ``(n,)``."""
    own = chances[np.arange(len(truth)), truth]
    losses: NDArray[np.float64] = -np.log(np.clip(own, SMALLEST, 1))
    return losses


def balanced_accuracy(truth: Truth, found: Truth, classes: int) -> float:
    """Mean sensitivity of the classes that occur."""
    counts = confusion_matrix(truth, found, labels=range(classes))
    there = counts.sum(1) > 0
    return float((counts.diagonal()[there] / counts.sum(1)[there]).mean())


def class_aurocs(truth: Truth, chances: Chances) -> list[float | None]:
    """Area under the ROC curve of each class against the rest; None where one of both is absent."""
    areas: list[float | None] = []
    for number in range(chances.shape[1]):
        own = truth == number
        known = own.any() and not own.all()
        areas.append(float(roc_auc_score(own, chances[:, number])) if known else None)
    return areas


def resampled_auroc(
    own: NDArray[np.bool_], scores: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Area under the ROC curve where each image counts several times or not at all.

    The probability that an image of the class has a higher score than another, ties counting half
    (Mann and Whitney 1947).

    Args:
        own: which images are of the class, ``(n,)``.
        scores: probabilities of the class, ``(n,)``.
        weights: ``(resamples, n)``: how often each image is drawn.

    Returns:
        ``(resamples,)``; NaN where one side was not drawn.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    firsts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sides = [np.add.reduceat(weights[:, order] * (own[order] == side), firsts, axis=1)
             for side in (True, False)]  # fmt: skip
    below = sides[1].cumsum(1) - 0.5 * sides[1]
    pairs = sides[0].sum(1) * sides[1].sum(1)
    with np.errstate(invalid="ignore"):
        areas: NDArray[np.float64] = (sides[0] * below).sum(1) / pairs
    return areas


def reliability(hits: NDArray[np.bool_], sure: NDArray[np.float64], bins: int = BINS) -> list[Tree]:
    """How often answers of each range of probability are right.

    Args:
        hits: whether each answer is right.
        sure: probability of each answer.
        bins: ranges of equal width; a value on the border belongs to the lower one.

    Returns:
        For each range that is not empty: ``low``, ``high``, ``n``, ``probability`` (mean) and
        ``accuracy``.
    """
    places = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    rows = []
    for place in range(bins):
        chosen = places == place
        if chosen.any():
            rows.append(
                {
                    "low": place / bins,
                    "high": (place + 1) / bins,
                    "n": int(chosen.sum()),
                    "probability": _number(sure[chosen].mean()),
                    "accuracy": _number(hits[chosen].mean()),
                }
            )
    return rows


def calibration_error(hits: NDArray[np.bool_], sure: NDArray[np.float64]) -> float | None:
    """Expected calibration error (Naeini et al. 2015): mean |accuracy - probability| of the bins.

    Bins are those of :func:`reliability`, weighed by their number of answers.
    """
    rows = reliability(hits, sure)
    total = sum(row["n"] for row in rows)
    return _number(
        sum(row["n"] * abs(row["accuracy"] - row["probability"]) for row in rows) / total
    )


def _auroc_interval(
    truth: Truth, chances: Chances, settings: EvaluationSettings
) -> list[float] | None:
    if len(truth) < 2 or not settings.bootstrap:
        return None
    rng, left, means = np.random.default_rng(0), settings.bootstrap, []
    while left:
        count = min(left, max(_MOST_WEIGHTS // len(truth), 1))
        left -= count
        weights = rng.multinomial(len(truth), [1 / len(truth)] * len(truth), size=count)
        areas = [
            resampled_auroc(truth == k, chances[:, k], weights.astype(np.float64))
            for k in range(chances.shape[1])
        ]
        table = np.stack(areas)
        known = ~np.isnan(table)
        with np.errstate(invalid="ignore"):
            means.append(np.where(known, table, 0).sum(0) / known.sum(0))
    values = np.concatenate(means)
    if np.isnan(values).all():
        return None
    tail = (1 - settings.confidence) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return _ends((low, high))


def _class_rows(
    truth: Truth, found: Truth, areas: Sequence[float | None], classes: Sequence[str]
) -> dict[str, Tree]:
    numbers = range(len(classes))
    precision, recall, f1, counts = precision_recall_fscore_support(
        truth, found, labels=numbers, zero_division=np.nan
    )
    return {
        name: {
            "n": int(counts[k]),
            "sensitivity": _number(recall[k]),
            "precision": _number(precision[k]),
            "f1": _number(f1[k]),
            "auroc": _number(areas[k]),
        }
        for k, name in enumerate(classes)
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _number(sum(known) / len(known)) if known else None


def _ends(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [round(float(limit), 6) for limit in interval]


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 6)
