"""Fit what a model carries to estimate its answers, on cases that did not train it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from medseg_nca.config.trust import (
    MAX_PAIRS,
    CalibrationPairs,
    LabelScale,
    TrustSection,
    case_digest,
)
from medseg_nca.trust.features import Features
from medseg_nca.trust.forest import fit_forest, predict_forest
from medseg_nca.trust.judge import distance, row_of

Matrix = NDArray[np.float64]

# With fewer groups of cases nothing can be predicted for cases that the trees have not seen.
LEAST_GROUPS = 2
_FOLDS = 10
# A clean image counts as several with a fault: a user has more of them.
_CLEAN_WEIGHT = 3.0
# Spread is at least this, so that a feature that never varied cannot become infinite.
_LEAST_SD, _LEAST_SHARE = 1e-4, 1e-3
# By how much the distance of a new clean image may exceed the largest of the fit.
_BEYOND = 1.25
_DIGITS = 5


@dataclass(frozen=True)
class TrustRow:
    """One label of one answer whose true Dice is known.

    Attributes:
        label: name of the label.
        group: what rows of one patient have in common; they are never on both sides of a fold.
        case: id of the case.
        clean: whether the image was without an artificial fault.
        features: of the answer.
        dice: true Dice.
    """

    label: str
    group: str
    case: str
    clean: bool
    features: Features
    dice: float


def fit_section(
    rows: Sequence[TrustRow],
    *,
    confidence: float,
    corruptions: Sequence[str] = (),
    prediction: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> TrustSection | None:
    """Fit the section of a model.

    Args:
        rows: labels of answers to clean and corrupted images of cases that did not train the model.
        confidence: of the intervals.
        corruptions: names of the faults that the rows have, for the record.
        prediction: settings that the rows were made with, for the record.
        seed: of the fit.

    Returns:
        The section; None if there are too few groups. A label without a clean row is left out.
    """
    names = tuple(rows[0].features) if rows else ()
    scales = _scales(rows, names)
    rows = [row for row in rows if row.label in scales]
    folds = _folds(rows)
    if folds is None:
        return None
    dice = np.array([row.dice for row in rows])
    clean = np.array([row.clean for row in rows])
    weight = np.where(clean, _CLEAN_WEIGHT, 1.0)
    predicted, distances = np.empty(len(rows)), np.zeros(len(rows))
    for known, new in folds:
        # Also the scales are those of other patients, as they are for a user's image.
        part = _scales([rows[k] for k in known], names)
        matrix = _matrix(rows, names, scales | part)
        trees = fit_forest(matrix[known], dice[known], weight[known], seed)
        predicted[new] = predict_forest(trees, matrix[new])
        distances[new] = [distance(row) for row in matrix[new]]
    kept = _kept(clean, seed)
    pairs = CalibrationPairs(
        predicted=_rounded(predicted[kept]),
        true=_rounded(dice[kept]),
        clean=tuple(clean[kept].tolist()),
    )
    return TrustSection(
        features=names,
        scales=tuple(scales.values()),
        trees=fit_forest(_matrix(rows, names, scales), dice, weight, seed),
        pairs=pairs,
        confidence=confidence,
        cases=len({row.group for row in rows}),
        fitted_on=tuple(map(case_digest, sorted({row.case for row in rows})))[:MAX_PAIRS],
        corruptions=tuple(corruptions),
        novelty=float(f"{_BEYOND * max(distances[clean].max(), 1.0):.{_DIGITS}g}"),
        prediction=dict(prediction or {}),
    )


def _folds(rows: Sequence[TrustRow]) -> list[tuple[NDArray[Any], NDArray[Any]]] | None:
    """Return places of known and of new rows for each fold; None if there are too few patients."""
    groups = [row.group for row in rows]
    count = len(set(groups))
    if count < LEAST_GROUPS:
        return None
    return list(GroupKFold(min(_FOLDS, count)).split(groups, groups=groups))


def _matrix(
    rows: Sequence[TrustRow], names: Sequence[str], scales: Mapping[str, LabelScale]
) -> Matrix:
    return np.stack([row_of(row.features, names, scales[row.label]) for row in rows])


def _scales(rows: Sequence[TrustRow], names: Sequence[str]) -> dict[str, LabelScale]:
    found: dict[str, LabelScale] = {}
    for label in dict.fromkeys(row.label for row in rows):
        values = [
            [row.features[name] for name in names]
            for row in rows
            if row.clean and row.label == label
        ]
        if not values:
            continue
        matrix = np.array(values)
        mean = matrix.mean(0)
        sd = np.maximum(matrix.std(0), _LEAST_SHARE * np.abs(mean) + _LEAST_SD)
        found[label] = LabelScale(label=label, mean=_digits(mean), sd=_digits(sd))
    return found


def _digits(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values)


def _kept(clean: NDArray[np.bool_], seed: int) -> NDArray[Any]:
    """Return the places of the pairs that a file has room for: clean ones first, others drawn."""
    order = np.random.default_rng(seed).permutation(len(clean))
    return np.sort(order[np.argsort(~clean[order], kind="stable")][:MAX_PAIRS])


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 3) for value in values)
