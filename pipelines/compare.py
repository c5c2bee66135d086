"""Compare two evaluations on the cases that they have in common."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from medseg_nca.config.training import EvaluationSettings
from medseg_nca.errors import ConfigError, DataError
from medseg_nca.io.atomic import write_json
from medseg_nca.metrics.summary import bootstrap_interval, interval_key
from medseg_nca.suggest import unknown
from medseg_nca.tasks import TASKS, Task
from medseg_nca.tasks.base import Better
from medseg_nca.viz.differences import Paired, plot_differences

MEAN = "mean"
METRICS_FILE = "metrics.json"
# The task of evaluations without a task, which were made until November 2026.
FIRST_TASK = "segmentation"
FloatArray = NDArray[np.float64]
Tree = dict[str, Any]


@dataclass(frozen=True)
class _Side:
    """One of the two evaluations."""

    path: Path
    tree: Tree

    @property
    def ids(self) -> set[str]:
        """The ids of the cases."""
        return {case["id"] for case in self.tree["cases"]}

    @property
    def task(self) -> str:
        """The registered name of the model's task."""
        return str(self.tree.get("task", FIRST_TASK))

    @property
    def name(self) -> str:
        """The name of the model."""
        return str(self.tree.get("model", {}).get("name", self.path.parent.name))


def run(
    first: Path,
    second: Path,
    *,
    metric: str | None = None,
    out: Path | None = None,
    settings: EvaluationSettings | None = None,
) -> Tree:
    """Compare two evaluations, case by case.

    The rows of a comparison depend on the task; those of a segmentation are each label, the merged
    labels, and the mean over the labels. Each row has the paired differences B - A, their mean with
    a bootstrap interval over the cases, and the p-value of Wilcoxon's signed-rank test (two-sided;
    equal pairs are left out). The p-values are not corrected for the number of tests. A row names a
    better side only if interval and p-value agree on it.

    Args:
        first: side A: a run folder, an evaluation folder or a ``metrics.json``.
        second: side B, in one of the same forms.
        metric: name of a metric in ``metrics.json``; None takes the task's first. If the best
            value of a metric is zero, its absolute value is compared.
        out: folder for ``comparison.json`` and ``differences.png``; None writes nothing.
        settings: number of resamples and confidence of the interval; None takes the defaults.

    Returns:
        The tree of ``comparison.json``.

    Raises:
        ConfigError: if there is no such metric.
        DataError: if an evaluation is missing or damaged, they are of different tasks, or they
            share no case or label.
        OutputError: if the results cannot be written.
    """
    settings = settings or EvaluationSettings()
    a, b = _read(first), _read(second)
    task, ids = _task_of(a, b), _ids_of(a, b)
    known = _comparable(task, a)
    metric = metric or next(iter(known))
    if metric not in known:
        raise ConfigError(unknown("metric", metric, known))
    better = known[metric]
    pairs = _pairs(task, a, b, ids, metric, signed=better == "zero")
    tree = {
        "metric": metric,
        "heading": task.heading(metric),
        "better": "lower" if better == "zero" else better,
        "confidence": settings.confidence,
        "a": _identity(a),
        "b": _identity(b),
        "cases": len(ids),
        "notes": _notes(a, b, ids, metric),
        "labels": {name: _compare(*values, better, settings) for name, values in pairs.items()},
    }
    if out is not None:
        _draw(tree, pairs, out / "differences.png")
        write_json(out / "comparison.json", tree)
    return tree


# What a tree that is no result of the task makes its readers raise.
_DAMAGE = (LookupError, TypeError, ValueError, AttributeError)


def _damaged(path: Path, error: Exception) -> DataError:
    text = f"it lacks {error}" if isinstance(error, LookupError) else str(error)
    return DataError(
        f"{path}: is not the result of an evaluation ({text}).",
        hint="Run `medseg-nca evaluate` again.",
    )


def _comparable(task: Task, side: _Side) -> Mapping[str, Better]:
    try:
        return task.comparable(side.tree)
    except _DAMAGE as error:
        raise _damaged(side.path, error) from error


def _ids_of(a: _Side, b: _Side) -> list[str]:
    ids = sorted(a.ids & b.ids)
    if not ids:
        raise DataError(
            f"{a.path} and {b.path} have no case in common.",
            hint="Evaluate both models on the same data set and split.",
        )
    return ids


def _task_of(a: _Side, b: _Side) -> Task:
    if a.task != b.task:
        raise DataError(
            f"{a.path} is of the task {a.task} and {b.path} of {b.task}.",
            hint="Compare two models of one task.",
        )
    task: Task = TASKS.get(a.task)
    return task


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
        for name in ("model", "data"):
            if not isinstance(tree.get(name, {}), dict):
                raise TypeError(f"{name} is no mapping")
        set(tree.get("labels", ()))  # raises TypeError where these are no names
    except (OSError, *_DAMAGE) as error:
        raise _damaged(file, error) from error
    return _Side(file, tree)


def _identity(side: _Side) -> Tree:
    score = side.tree.get("score") or {"name": "Dice", "value": side.tree.get("mean_dice")}
    return {"path": str(side.path), "model": side.name, "score": score}


def _notes(a: _Side, b: _Side, ids: Sequence[str], metric: str) -> list[str]:
    notes = []
    for side, word in ((a, "A"), (b, "B")):
        alone = len(side.ids) - len(ids)
        if alone:
            notes.append(f"{alone} cases that only {word} has are left out.")
    if a.tree.get("data", {}).get("hash") != b.tree.get("data", {}).get("hash"):
        notes.append("The two were evaluated on different data sets; cases are matched by id.")
    if metric == "nsd" and a.tree.get("tolerance_mm") != b.tree.get("tolerance_mm"):
        notes.append("The two NSD have different tolerances and cannot be compared.")
    if set(a.tree.get("labels", ())) != set(b.tree.get("labels", ())):
        notes.append("Labels that only one of the two has are left out.")
    return notes


def _pairs(
    task: Task, a: _Side, b: _Side, ids: Sequence[str], metric: str, *, signed: bool
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return the values of A and B for each common row, and their mean; NaN if one is unknown."""
    sides = [_rows(task, side, ids, metric, signed=signed) for side in (a, b)]
    names = [name for name in sides[0] if name in sides[1]]
    single = [name for name in names if name not in task.joint_rows]
    if not single:
        raise DataError(f"{a.path} and {b.path} have no label in common.")
    pairs = {name: (sides[0][name], sides[1][name]) for name in names}
    if set(task.joint_rows) & set(names):
        left, right = (np.stack([side[name] for name in single], axis=1) for side in sides)
        # A pair with a missing value is left out, because it would bias the means.
        known = ~np.isnan(left) & ~np.isnan(right)
        some = known.any(axis=1)
        left, right = (np.where(known, side, np.nan)[some] for side in (left, right))
        pairs[MEAN] = np.nanmean(left, axis=1), np.nanmean(right, axis=1)
    return pairs


def _rows(
    task: Task, side: _Side, ids: Sequence[str], metric: str, *, signed: bool
) -> dict[str, FloatArray]:
    """Return the values of the cases for each row; absolute values if they are ``signed``."""
    try:
        rows = task.case_values(side.tree, metric)
        found = {
            name: np.array([math.nan if row[i] is None else float(row[i] or 0.0) for i in ids])
            for name, row in rows.items()
        }
    except _DAMAGE as error:
        raise _damaged(side.path, error) from error
    return {name: np.abs(values) for name, values in found.items()} if signed else found


def _compare(
    first: FloatArray, second: FloatArray, better: Better, settings: EvaluationSettings
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
        "better": _winner(interval, better) if clear else None,
    }


def signed_rank_p(differences: FloatArray) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test; 1 if no pair differs.

    Differences below 1e-9 count as zero, because they come from rounding.
    """
    real = differences[np.abs(differences) > 1e-9]
    return float(wilcoxon(real).pvalue) if real.size else 1.0


def _winner(interval: tuple[float, float] | None, better: Better) -> str | None:
    """Return which side is better according to the interval; None if it contains zero.

    A bootstrap interval of few cases is too narrow, so the caller also requires a small p-value.
    """
    if interval is None or interval[0] <= 0 <= interval[1]:
        return None
    b_is_larger = interval[0] > 0
    return "b" if b_is_larger == (better == "higher") else "a"


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
        heading=f"{tree['heading']}, B − A",
        title=f"A: {tree['a']['model']}    B: {tree['b']['model']}",
        better=f"(B is better to the {side})",
    )  # fmt: skip
