"""How a search went: the scores in the order of the trials, and the validation curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from medseg_nca.viz.canvas import FAINT, INK, save, style
from medseg_nca.viz.search_study import StudyView, TrialView, short_number
from medseg_nca.viz.search_style import (
    BEST,
    COMPLETE,
    FAILED,
    PRUNED,
    empty,
    objective_axis,
    rgba,
    score_bar,
    score_colours,
    search_figure,
)

_FLOOR = 0.03  # height, as a share of the plot, of the marks of trials without a value


def plot_search_history(view: StudyView, path: Path) -> Path:
    """Draw each objective over the trials, with the best so far.

    A pruned trial stands at the last score that it reported; a failed one stands at the bottom.

    Args:
        view: the search.
        path: of the PNG.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    if not view.trials:
        return empty(path, "there is no trial yet")
    count = len(view.objectives)
    figure = search_figure(max(6.4, 4.6 * count), 3.6)
    for place, axes in enumerate(figure.subplots(1, count, squeeze=False)[0]):
        _history(axes, view, place)
        if place == 0 and axes.get_legend_handles_labels()[0]:
            axes.legend(
                fontsize=8, frameon=False, labelcolor=INK, loc="lower right", ncols=4,
                bbox_to_anchor=(1, 1), borderaxespad=0.3, handletextpad=0.4, columnspacing=1.2,
            )  # fmt: skip
    return save(figure, path)


def plot_search_curves(view: StudyView, path: Path, *, steps: str = "training step") -> Path:
    """Draw the score over the steps of the training, for each trial that reported one.

    Finished trials have the colour of their score, the best one is thick, and pruned and failed
    ones are grey and end in a mark.

    Args:
        view: the search.
        path: of the PNG.
        steps: what the steps of the curves are.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    drawn = [trial for trial in view.trials if trial.curve]
    if not drawn:
        return empty(path, "no trial reported a validation")
    figure = search_figure(7.4, 3.9)
    axes = style(figure.subplots(), title="Validation curves", x=steps)
    objective_axis(axes, "y", view.score, [value for trial in drawn for _, value in trial.curve])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    colours = score_colours(view)
    best = view.ranked[0].number if view.ranked else None
    for trial in drawn:
        _curve(axes, trial, rgba(colours, trial.values[0]) if trial.values else PRUNED,
               best=trial.number == best)  # fmt: skip
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    if named:
        axes.legend(named.values(), named.keys(), fontsize=8, frameon=False, labelcolor=INK)
    if view.ranked:
        score_bar(figure, axes, view, colours)
    return save(figure, path)


def _history(axes: Axes, view: StudyView, place: int) -> None:
    objective = view.objectives[place]
    complete = [(t.number, t.values[place]) for t in view.trials if t.values]
    pruned = view.of_state("pruned")
    ended = [(t.number, t.curve[-1][1]) for t in pruned if t.curve] if place == 0 else []
    style(axes, title=objective.caption[:1].upper() + objective.caption[1:], x="trial")
    objective_axis(axes, "y", objective, [value for _, value in (*complete, *ended)])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _points(axes, complete, "complete", marker="o", s=22, color=COMPLETE, alpha=0.75, linewidths=0)
    _points(axes, ended, "pruned", marker="v", s=22, facecolors="none", edgecolors=PRUNED)
    without = [t.number for t in pruned if not t.curve or place]
    _points(axes, [(n, _FLOOR) for n in without], "" if ended else "pruned", floor=True,
            marker="v", s=22, facecolors="none", edgecolors=PRUNED)  # fmt: skip
    failed = [(t.number, _FLOOR) for t in view.of_state("failed")]
    _points(axes, failed, "failed", floor=True, marker="x", s=26, color=FAILED, linewidths=1.4)
    if complete:
        _best_so_far(axes, complete, view, place)
    axes.set_xlim(-0.6, max(trial.number for trial in view.trials) + 0.6)


def _points(
    axes: Axes, points: Sequence[tuple[int, float]], label: str, *, floor: bool = False,
    **looks: object,
) -> None:  # fmt: skip
    """Marks at values, or at a height of the plot."""
    if not points:
        return
    x, y = zip(*points, strict=True)
    at = {"transform": axes.get_xaxis_transform()} if floor else {}
    axes.scatter(x, y, label=label or None, zorder=3, **at, **looks)  # type: ignore[arg-type]


def _best_so_far(
    axes: Axes, complete: Sequence[tuple[int, float]], view: StudyView, place: int
) -> None:
    numbers, values = (np.array(part) for part in zip(*complete, strict=True))
    maximise = view.objectives[place].maximise
    so_far = (np.maximum if maximise else np.minimum).accumulate(values)
    last = max(trial.number for trial in view.trials)
    axes.step([*numbers, last], [*so_far, so_far[-1]], where="post", color=BEST, linewidth=1.6,
              zorder=2, label="best so far")  # fmt: skip
    where = int(values.argmax() if maximise else values.argmin())
    axes.scatter(numbers[where], values[where], marker="*", s=120, color=BEST, zorder=5,
                 edgecolors="white", linewidths=0.6)  # fmt: skip
    axes.annotate(
        short_number(float(values[where])), (numbers[where], values[where]),
        xytext=(0, 8 if maximise else -14), textcoords="offset points", ha="center", fontsize=9,
        color=BEST, fontweight="bold",
    )  # fmt: skip
    axes.margins(y=0.14)


def _curve(axes: Axes, trial: TrialView, colour: object, *, best: bool) -> None:
    x, y = zip(*trial.curve, strict=True)
    label = f"best: trial {trial.number}" if best else None
    axes.plot(x, y, color=colour, linewidth=2.6 if best else 1.1, zorder=4 if best else 3,
              alpha=1 if best else 0.85, marker="o" if len(x) == 1 else "",
              markersize=3.5, label=label)  # fmt: skip
    mark = {"pruned": "v", "failed": "x"}.get(trial.state)
    if mark:
        looks = {"color": FAILED} if mark == "x" else {"facecolors": "white", "edgecolors": FAINT}
        axes.scatter(x[-1:], y[-1:], marker=mark, s=20, zorder=3, label=trial.state,
                     linewidths=0.9, **looks)  # type: ignore[arg-type]  # fmt: skip
