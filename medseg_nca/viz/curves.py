"""How a training went: loss, validation metrics and learning rate over the iterations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from medseg_nca.viz.canvas import FAINT, INK, PALETTE, colour, headline, new_figure, save, style

Series = tuple[list[float], list[float]]
# More names than these leave no room for the curves.
MOST_NAMED = 10
NEVER_DRAWN = ("iteration", "wall_s", "seconds")


def plot_history(
    rows: Sequence[Mapping[str, Any]], path: Path, title: str = "", *, best: int | None = None
) -> Path:
    """Draw the rows of ``history.csv``.

    Args:
        rows: each with ``iteration`` and any of ``loss``, ``loss_...``, ``lr`` and ``val_...``;
            numbers, or text as a CSV reader gives it; what is missing or empty is skipped.
        path: of the PNG.
        title: above the figure.
        best: iteration of the validation whose weights are kept; its score is marked.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    names = list(dict.fromkeys(name for row in rows for name in row if name not in NEVER_DRAWN))
    losses = [n for n in names if n == "loss" or n.startswith("loss_")]
    metrics = [n for n in names if n.startswith("val_")]
    rates = [n for n in names if n == "lr"]
    groups = [("Loss", losses), *_by_scale(metrics), ("Learning rate", rates)]
    drawn = [(word, series) for word, wanted in groups if (series := _collect(rows, wanted))]
    figure = new_figure(4.6 * max(len(drawn), 1), 3.6)
    headline(figure, title)
    if not drawn:
        figure.text(0.5, 0.5, "nothing recorded yet", ha="center", color=FAINT)
        return save(figure, path)
    for axes, (word, series) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn,
                                    strict=True):  # fmt: skip
        style(axes, title=word, x="iteration")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        _draw(axes, word, series)
        if best is not None and word == _by_scale(metrics)[0][0]:
            _mark_best(axes, series, best)
    return save(figure, path)


def _by_scale(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Distances in mm do not share an axis with ratios."""
    distances = [n for n in names if any(part in n for part in ("hd", "assd", "distance", "mm"))]
    ratios = [n for n in names if n not in distances]
    word = "Validation Dice" if all("dice" in n for n in ratios) else "Validation"
    return [(word, ratios), ("Validation distance (mm)", distances)]


def _collect(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Series]:
    """Iterations and finite values of each name that has any."""
    found: dict[str, Series] = {}
    for name in names:
        points = [(_number(row.get("iteration")), _number(row.get(name))) for row in rows]
        known = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        if known:
            found[name] = [x for x, _ in known], [y for _, y in known]
    return found


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _draw(axes: Axes, word: str, series: Mapping[str, Series]) -> None:
    noisy = word == "Loss"
    for number, (name, (x, y)) in enumerate(series.items()):
        first = number == 0 and name.startswith("val_")  # a validation's score comes first
        main = len(series) == 1 or name == "loss" or first
        shade = INK if main and len(series) > 1 else colour(number if not main else 6)
        marker = "o" if word.startswith("Validation") and len(x) <= 30 else ""
        if noisy:
            axes.plot(x, y, color=shade, linewidth=0.8, alpha=0.25)
        named = main or number < MOST_NAMED
        axes.plot(
            x, _smooth(y) if noisy else y, color=shade, marker=marker, markersize=3.5,
            linewidth=2.0 if main else 1.3, zorder=3 if main else 2,
            label=_word(name) if named else "_",
        )  # fmt: skip
    values = [v for _, y in series.values() for v in y]
    if noisy and min(values) > 0 and max(values) > 8 * min(values):
        axes.set_yscale("log")
    if word.startswith("Validation") and max(values) <= 1:
        axes.set_ylim(min(0.0, *values), 1.0)
    if word == "Learning rate":
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylim(bottom=0)
    if len(series) > 1:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)


def _word(name: str) -> str:
    """How a column is called in a legend."""
    word = name.removeprefix("val_").replace("_", " ")
    return {"dice": "mean", "loss": "total"}.get(
        word, word.removeprefix("dice ").removeprefix("loss ")
    )


def _mark_best(axes: Axes, series: Mapping[str, Series], best: int) -> None:
    """Mark the score, which is the first of the validation's numbers, where it was best."""
    points = dict(zip(*next(iter(series.values())), strict=True))
    if best not in points:
        return
    axes.scatter([best], [points[best]], s=46, color=PALETTE[5], zorder=4)
    axes.annotate(
        f"{points[best]:.3f}", (best, points[best]), xytext=(0, 7), textcoords="offset points",
        ha="center", fontsize=9, color=PALETTE[5], fontweight="bold",
    )  # fmt: skip


def _smooth(values: Sequence[float]) -> Any:
    """Moving mean over a twentieth of the curve, shorter at its ends."""
    reach = len(values) // 40
    total = np.concatenate([[0.0], np.cumsum(values)])
    middle = np.arange(len(values))
    low, high = np.maximum(middle - reach, 0), np.minimum(middle + reach + 1, len(values))
    return (total[high] - total[low]) / (high - low)
