"""What the settings of a search have to do with its score: slices and parallel coordinates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator, NullLocator

from medseg_nca.viz.canvas import FAINT, GRID, INK, literal, save, style
from medseg_nca.viz.search_study import ParameterView, StudyView, TrialView
from medseg_nca.viz.search_style import (
    BEST,
    PRUNED,
    caption,
    empty,
    objective_axis,
    rgba,
    score_bar,
    score_colours,
    search_figure,
)

COLUMNS = 3
_MISSING = -0.12  # where lines of a trial without that setting cross its axis
_CHOICE = 14  # letters


def plot_slices(view: StudyView, path: Path, *, objective: int = 0) -> Path:
    """Draw each setting against an objective: a point is a complete trial, darker if it came later.

    Args:
        view: the search.
        path: of the PNG.
        objective: which one, from 0.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    complete = view.of_state("complete")
    if not complete or not view.parameters:
        return empty(path, "no trial is complete" if view.parameters else "no setting is varied")
    count = len(view.parameters)
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = search_figure(3.1 * columns + 1.0, 2.6 * rows + 0.2)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    last = max(trial.number for trial in complete)
    colours = ScalarMappable(Normalize(-0.25 * (last + 1), last), colormaps["Blues"])
    for place, axes in enumerate(grid.ravel()):
        if place >= count:
            axes.set_visible(False)
            continue
        _slice(axes, view, view.parameters[place], objective, colours)
        if place % columns:
            axes.set_ylabel("")
    if last > 0:
        colours.set_clim(0, last)
        bar = figure.colorbar(colours, ax=grid, aspect=40, pad=0.01, shrink=0.8)
        bar.set_label("trial", fontsize=9, color=FAINT)
        bar.ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        bar.ax.tick_params(labelsize=8.5, colors=FAINT, length=0)
        bar.outline.set_visible(False)
    return save(figure, path)


def plot_parallel(view: StudyView, path: Path) -> Path:
    """Draw each trial as a line through its settings, coloured by its score.

    Lines of trials without a score are grey. Where a trial does not have a conditional setting,
    its line passes below that axis.

    Args:
        view: the search.
        path: of the PNG.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    complete = view.of_state("complete")
    if not complete or not view.parameters:
        return empty(path, "no trial is complete" if view.parameters else "no setting is varied")
    values = [trial.values[0] for trial in complete if trial.values]
    score = ParameterView(view.score.caption, min(values), max(values))
    shown = [*view.parameters, score]
    figure = search_figure(max(6.4, 1.5 * len(shown) + 1.2), 4.4)
    axes = figure.subplots()
    colours = score_colours(view)
    for trial in view.trials:
        if trial.state in ("pruned", "failed"):
            _line(axes, view, trial, None, PRUNED, 0.7, 0.45, 1)
    for trial in reversed(view.ranked):
        best = trial is view.ranked[0]
        assert trial.values is not None
        shade = rgba(colours, trial.values[0])
        _line(axes, view, trial, score, shade, 2.8 if best else 1.2, 1 if best else 0.8,
              4 if best else 3)  # fmt: skip
    gaps = {p.name for p in view.parameters for t in view.trials if p.name not in t.params}
    for place, parameter in enumerate(shown):
        _axis(axes, place, parameter)
        if parameter.name in gaps:
            axes.plot([place - 0.05, place + 0.05], [_MISSING] * 2, color=GRID, linewidth=3)
            axes.text(place + 0.08, _MISSING, "not set", fontsize=8, color=FAINT, va="center")
    axes.set_xlim(-0.35, len(shown) - 0.55)
    axes.set_ylim(_MISSING - 0.06 if gaps else -0.05, 1.05)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    names = [*(caption(p.name) for p in view.parameters), literal(score.name)]
    axes.set_xticks(range(len(shown)), names, rotation=20, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", labelsize=9, colors=INK, length=0)
    score_bar(figure, axes, view, colours)
    return save(figure, path)


def _slice(
    axes: Axes, view: StudyView, parameter: ParameterView, objective: int, colours: ScalarMappable
) -> None:
    complete = [t for t in view.of_state("complete") if parameter.name in t.params and t.values]
    style(axes)
    axes.set_xlabel(caption(parameter.name), fontsize=9.5, color=INK)
    objective_axis(
        axes, "y", view.objectives[objective],
        [t.values[objective] for t in view.of_state("complete") if t.values],
    )  # fmt: skip
    axes.yaxis.set_label_text(view.objectives[objective].caption, parse_math=False)
    x = np.array([parameter.number(t.params[parameter.name]) for t in complete])
    y = np.array([t.values[objective] for t in complete if t.values])
    if parameter.choices:
        _choices(axes, parameter, x, y)
        x = x + np.random.default_rng(0).uniform(-0.16, 0.16, x.size)
    else:
        _range(axes, parameter)
    axes.scatter(x, y, s=22, c=[rgba(colours, t.number) for t in complete], zorder=3,
                 edgecolors="#5b7a9a", linewidths=0.4)  # fmt: skip
    best = view.ranked[0]
    if objective == 0 and best in complete:
        at = x[complete.index(best)]
        axes.scatter([at], [y[complete.index(best)]], marker="*", s=120, color=BEST, zorder=5,
                     edgecolors="white", linewidths=0.6)  # fmt: skip


def _range(axes: Axes, parameter: ParameterView) -> None:
    """Show the whole range of a number, so that what nobody tried is seen."""
    if parameter.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    ticks = parameter.ticks()
    axes.set_xticks(list(ticks), list(ticks.values()))
    if parameter.high > parameter.low:
        ends = np.array([parameter.low, parameter.high])
        if parameter.log:
            axes.set_xlim(*(ends * (parameter.high / parameter.low) ** np.array([-0.06, 0.06])))
        else:
            axes.set_xlim(*(ends + (parameter.high - parameter.low) * np.array([-0.06, 0.06])))


def _choices(axes: Axes, parameter: ParameterView, x: np.ndarray, y: np.ndarray) -> None:
    """Name the choices, and draw the median of each."""
    assert parameter.choices is not None
    for place in range(len(parameter.choices)):
        own = y[x == place]
        if own.size:
            axes.plot([place - 0.26, place + 0.26], [np.median(own)] * 2, color=INK, linewidth=1.4)
    names = [_short(choice) for choice in parameter.choices]
    crowded = sum(map(len, names)) > 26
    axes.set_xticks(range(len(names)), names)
    if crowded:
        axes.tick_params(axis="x", rotation=25)
    axes.set_xlim(-0.6, len(names) - 0.4)


def _line(
    axes: Axes, view: StudyView, trial: TrialView, score: ParameterView | None, colour: object,
    width: float, alpha: float, order: int,
) -> None:  # fmt: skip
    places = [
        p.place(p.number(trial.params[p.name])) if p.name in trial.params else _MISSING
        for p in view.parameters
    ]
    if score is not None and trial.values:
        places.append(score.place(trial.values[0]))
    axes.plot(range(len(places)), places, color=colour, linewidth=width, alpha=alpha,
              zorder=order, solid_joinstyle="round")  # fmt: skip


def _axis(axes: Axes, place: int, parameter: ParameterView) -> None:
    axes.plot([place, place], [0, 1], color=FAINT, linewidth=1.1, zorder=5)
    for number, text in parameter.ticks().items():
        height = parameter.place(number)
        axes.text(
            place + 0.04, height, literal(_short(text)), fontsize=8, color=INK, va="center",
            zorder=6, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.6},
        )  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= _CHOICE else f"{text[: _CHOICE - 1]}…"
