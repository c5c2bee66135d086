"""Compare two evaluations on the cases that they share."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from medseg_nca.config.training import EvaluationSettings
from medseg_nca.errors import ConfigError, DataError
from medseg_nca.io.atomic import write_json
from medseg_nca.metrics.definitions import MERGED, METRICS
from medseg_nca.metrics.summary import bootstrap_interval, interval_key
from medseg_nca.suggest import unknown
from medseg_nca.viz.differences import Paired, plot_differences

MEAN = "mean"
METRICS_FILE = "metrics.json"
COMPARABLE = tuple(name for name, metric in METRICS.items() if metric.better is not None)
FloatArray = NDArray[np.float64]
Tree = dict[str, Any]


@dataclass(frozen=True)
class _Side:
    """One of the two evaluations."""

    path: Path
    tree: Tree

    @property
    def cases(self) -> dict[str, Tree]:
        """By id."""
        return {case["id"]: case for case in self.tree["cases"]}

    @property
    def name(self) -> str:
        """Of the model."""
        return str(self.tree.get("model", {}).get("name", self.path.parent.name))


def run(
    first: Path,
    second: Path,
    *,
    metric: str = "dice",
    out: Path | None = None,
    settings: EvaluationSettings | None = None,
) -> Tree:
    """Compare two evaluations, case by case.

    For each label, for the merged labels and for the mean over the labels: the paired differences
    B - A, their mean with a bootstrap interval over the cases, and the p of Wilcoxon's signed-rank
    test (two-sided; equal pairs are left out). The tests are not corrected for their number. One
    is called better where interval and p both tell.

    Args:
        first: A: a run folder, an evaluation folder or a ``metrics.json``.
        second: B: the same.
        metric: a name from ``metrics.json``. Of signed differences the size is compared.
        out: folder for ``comparison.json`` and ``differences.png``; None writes nothing.
        settings: resamples and confidence.

    Returns:
        The tree of ``comparison.json``.

    Raises:
        ConfigError: if there is no such metric.
        DataError: if an evaluation is missing or damaged, or they share no case or label.
        OutputError: if the results cannot be written.
    """
    if metric not in COMPARABLE:
        raise ConfigError(unknown("metric", metric, COMPARABLE))
    settings = settings or EvaluationSettings()
    a, b = _read(first), _read(second)
    ids = sorted(a.cases.keys() & b.cases.keys())
    if not ids:
        raise DataError(
            f"{a.path} and {b.path} have no case in common.",
            hint="Evaluate both models on the same data set and split.",
        )
    pairs = _pairs(a, b, ids, metric)
    better = METRICS[metric].better
    tree = {
        "metric": metric,
        "better": "lower" if better == "zero" else better,
        "confidence": settings.confidence,
        "a": _identity(a),
        "b": _identity(b),
        "cases": len(ids),
        "notes": _notes(a, b, ids, metric),
        "labels": {name: _compare(*values, metric, settings) for name, values in pairs.items()},
    }
    if out is not None:
        _draw(tree, pairs, out / "differences.png")
        write_json(out / "comparison.json", tree)
    return tree


def _read(path: Path) -> _Side:
    """Find and read an evaluation."""
    places = [path] if path.is_file() else [path / METRICS_FILE, path / "evaluation" / METRICS_FILE]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise DataError(
            f"{path}: there is no {METRICS_FILE} in it.",
            hint="Run `medseg-nca evaluate` first, and name its --out folder or the run.",
        )
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        for case in tree["cases"]:
            if not isinstance(case["id"], str):
                raise TypeError("a case without a name")
            _ = case["labels"], case[MERGED]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: is not the result of an evaluation ({error}).") from error
    return _Side(file, tree)


def _identity(side: _Side) -> Tree:
    return {"path": str(side.path), "model": side.name, "mean_dice": side.tree.get("mean_dice")}


def _notes(a: _Side, b: _Side, ids: Sequence[str], metric: str) -> list[str]:
    notes = []
    for side, word in ((a, "A"), (b, "B")):
        alone = len(side.cases) - len(ids)
        if alone:
            notes.append(f"{alone} cases that only {word} has are left out.")
    if a.tree.get("data", {}).get("hash") != b.tree.get("data", {}).get("hash"):
        notes.append("The two were evaluated on different data sets; cases are matched by id.")
    if metric == "nsd" and a.tree.get("tolerance_mm") != b.tree.get("tolerance_mm"):
        notes.append("The two NSD have different tolerances and cannot be compared.")
    if set(a.tree["labels"]) != set(b.tree["labels"]):
        notes.append("Labels that only one of the two has are left out.")
    return notes


def _pairs(
    a: _Side, b: _Side, ids: Sequence[str], metric: str
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Values of A and B for each label, for the merged labels and for the mean; NaN for None."""
    names = [name for name in a.tree["labels"] if name in b.tree["labels"]]
    if not names:
        raise DataError(f"{a.path} and {b.path} have no label in common.")
    sides = [
        np.array([[_value(side.cases[i]["labels"][n], metric) for n in names] for i in ids])
        for side in (a, b)
    ]
    # A pair of which one value is missing says nothing, and would unbalance the means.
    known = ~np.isnan(sides[0]) & ~np.isnan(sides[1])
    left, right = (np.where(known, side, np.nan) for side in sides)
    pairs = {name: (left[:, n], right[:, n]) for n, name in enumerate(names)}
    merged = [np.array([_value(side.cases[i][MERGED], metric) for i in ids]) for side in (a, b)]
    pairs[MERGED] = merged[0], merged[1]
    some = known.any(axis=1)
    pairs[MEAN] = np.nanmean(left[some], axis=1), np.nanmean(right[some], axis=1)
    return pairs


def _value(values: Tree, metric: str) -> float:
    value = values.get(metric)
    if value is None:
        return math.nan
    return abs(float(value)) if METRICS[metric].better == "zero" else float(value)


def _compare(
    first: FloatArray, second: FloatArray, metric: str, settings: EvaluationSettings
) -> Tree:
    known = ~np.isnan(first) & ~np.isnan(second)
    a, b = first[known], second[known]
    difference = b - a
    key = interval_key(settings.confidence)
    if not difference.size:
        return {"n": 0, "mean_a": None, "mean_b": None, "difference": None, key: None,
                "median_difference": None, "p": None, "better": None}  # fmt: skip
    interval = bootstrap_interval(
        difference, resamples=settings.bootstrap, confidence=settings.confidence
    )
    p = signed_rank_p(difference)
    clear = p < 1 - settings.confidence
    return {
        "n": int(difference.size),
        "mean_a": round(float(a.mean()), 6),
        "mean_b": round(float(b.mean()), 6),
        "difference": round(float(difference.mean()), 6),
        key: None if interval is None else [round(limit, 6) for limit in interval],
        "median_difference": round(float(np.median(difference)), 6),
        "p": p,
        "better": _winner(interval, metric) if clear else None,
    }


def signed_rank_p(differences: FloatArray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; 1 if no pair differs.

    Differences below 1e-9 count as none: they come from rounding.
    """
    real = differences[np.abs(differences) > 1e-9]
    return float(wilcoxon(real).pvalue) if real.size else 1.0


def _winner(interval: tuple[float, float] | None, metric: str) -> str | None:
    """Which one is better, as far as the interval can tell.

    The interval of a handful of cases is too narrow, so the p has to agree.
    """
    if interval is None or interval[0] <= 0 <= interval[1]:
        return None
    b_is_larger = interval[0] > 0
    return "b" if b_is_larger == (METRICS[metric].better == "higher") else "a"


def _draw(tree: Tree, pairs: dict[str, tuple[FloatArray, FloatArray]], path: Path) -> None:
    key = interval_key(tree["confidence"])
    rows = {}
    for name, (first, second) in pairs.items():
        entry = tree["labels"][name]
        difference = second - first
        if entry["n"]:
            known = [float(v) for v in difference[~np.isnan(difference)]]
            rows[name] = Paired(known, entry["difference"], entry[key] and tuple(entry[key]))
    side = "right" if tree["better"] == "higher" else "left"
    plot_differences(
        rows, path,
        heading=f"{METRICS[tree['metric']].heading()}, B − A",
        title=f"A: {tree['a']['model']}    B: {tree['b']['model']}",
        better=f"(B is better to the {side})",
    )  # fmt: skip
