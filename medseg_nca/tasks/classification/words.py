"""Names of the measures of classification, and how their numbers are written."""

from __future__ import annotations

from typing import Any

from medseg_nca.metrics.summary import interval_key

Tree = dict[str, Any]

WORDS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
}
COLUMNS = ("n", "sensitivity", "precision", "f1", "auroc")


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as a table shows it; a dash if there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def with_interval(tree: Tree, name: str) -> str:
    """Return a number with its confidence interval, if it has one."""
    ends = tree.get(f"{name}_{interval_key(tree['confidence'])}")
    return number(tree[name]) + (f" [{number(ends[0])}, {number(ends[1])}]" if ends else "")


def class_rows(tree: Tree) -> list[tuple[str, ...]]:
    """Return a row for each class: name, n, sensitivity, precision, f1, AUROC."""
    return [
        (name, str(row["n"]), *(number(row[key]) for key in COLUMNS[1:]))
        for name, row in tree["classes"].items()
    ]
