"""How the measures of classification are called and written."""

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
    """A number for a table; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def with_interval(tree: Tree, name: str) -> str:
    """A number with its confidence interval, where it has one."""
    ends = tree.get(f"{name}_{interval_key(tree['confidence'])}")
    return number(tree[name]) + (f" [{number(ends[0])}, {number(ends[1])}]" if ends else "")


def class_rows(tree: Tree) -> list[tuple[str, ...]]:
    """A row for each class: name, n, sensitivity, precision, f1, AUROC."""
    return [
        (name, str(row["n"]), *(number(row[key]) for key in COLUMNS[1:]))
        for name, row in tree["classes"].items()
    ]
