"""Which trials are the best compromise between two or three objectives."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from medseg_nca.viz.canvas import GRID, INK, save, style
from medseg_nca.viz.search_study import StudyView
from medseg_nca.viz.search_style import BEST, COMPLETE, DPI, empty, objective_axis, search_figure

_APART = 0.24  # inches between two trials that are named


def plot_front(view: StudyView, path: Path) -> Path:
    """Draw the complete trials in the plane of each pair of the objectives, and the Pareto front.

    With three objectives the front is that of all three, so that in a plane of two some of its
    trials lie behind others.

    Args:
        view: the search, with two objectives at least.
        path: of the PNG.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    if not view.front:
        return empty(path, "no trial is complete")
    pairs = list(combinations(range(min(len(view.objectives), 3)), 2))
    figure = search_figure(max(6.4, 4.4 * len(pairs)), 4.2)
    for axes, (y, x) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        _plane(axes, view, x, y)
    return save(figure, path)


def _plane(axes: Axes, view: StudyView, x: int, y: int) -> None:
    style(axes)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    complete = [trial.values for trial in view.of_state("complete") if trial.values]
    objective_axis(axes, "x", view.objectives[x], [values[x] for values in complete])
    objective_axis(axes, "y", view.objectives[y], [values[y] for values in complete])
    front = sorted((t for t in view.front if t.values), key=lambda t: (t.values or ())[x])
    chosen = {trial.number for trial in front}
    others = [t.values for t in view.of_state("complete") if t.values and t.number not in chosen]
    if others:
        axes.scatter([v[x] for v in others], [v[y] for v in others], s=22, color=COMPLETE,
                     alpha=0.45, linewidths=0, label="beaten by another trial")  # fmt: skip
    best = [trial.values for trial in front if trial.values]
    if len(view.objectives) == 2:
        # What can be had at a cost is what the nearest trial of the front at no more cost has.
        where = "steps-pre" if view.objectives[x].maximise else "steps-post"
        axes.plot([v[x] for v in best], [v[y] for v in best], drawstyle=where, color=BEST,
                  linewidth=1.4, zorder=2)  # fmt: skip
    axes.scatter([v[x] for v in best], [v[y] for v in best], s=38, color=BEST, zorder=4,
                 edgecolors="white", linewidths=0.7, label="Pareto front")  # fmt: skip
    axes.margins(0.1)
    _name(axes, view, x, y)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK)


def _name(axes: Axes, view: StudyView, x: int, y: int) -> None:
    """Write the numbers of the trials of the front, as far as there is room for them."""
    axes.autoscale_view()
    named: list[NDArray[np.float64]] = []
    least = _APART * DPI
    for trial in view.front:
        values = trial.values or ()
        at = np.asarray(axes.transData.transform((values[x], values[y])))
        if all(np.linalg.norm(at - other) > least for other in named):
            named.append(at)
            axes.annotate(str(trial.number), (values[x], values[y]), xytext=(4, -11),
                          textcoords="offset points", fontsize=8, color=INK)  # fmt: skip
