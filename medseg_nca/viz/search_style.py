"""What the figures of a search share: colours of scores and states, scales and captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from medseg_nca.viz.canvas import FAINT, PALETTE, literal, new_figure, save
from medseg_nca.viz.search_study import ObjectiveView, StudyView, short_number

DPI = 200  # the figures are meant for papers too
COMPLETE, BEST, PRUNED, FAILED = PALETTE[6], PALETTE[5], "#9aa5b1", PALETTE[2]
# A positive objective whose largest value is so many times its smallest has a logarithmic axis.
_LOG_FROM = 12.0
_LETTERS = 26


def search_figure(width: float, height: float) -> Figure:
    """An empty figure with more dots than those of the screen alone."""
    return new_figure(width, height, dpi=DPI)


def empty(path: Path, text: str) -> Path:
    """Write a figure that says why there is nothing to see."""
    figure = search_figure(6.4, 1.6)
    figure.text(0.5, 0.5, text, ha="center", va="center", color=FAINT, fontsize=10)
    return save(figure, path)


def scores(view: StudyView) -> list[float]:
    """The first objective of each complete trial."""
    return [trial.values[0] for trial in view.of_state("complete") if trial.values]


def score_colours(view: StudyView) -> ScalarMappable:
    """Colours of the scores: the better, the darker.

    The scale ends at the worst tenth, because a few trials that diverged would take all of it.
    """
    known = scores(view) or [0.0]
    if view.score.maximise:
        low, high = float(np.quantile(known, 0.1)), max(known)
    else:
        low, high = min(known), float(np.quantile(known, 0.9))
    if high <= low:
        low, high = low - 0.5, low + 0.5
    name = "viridis_r" if view.score.maximise else "viridis"
    return ScalarMappable(Normalize(low, high, clip=True), colormaps[name])


def rgba(colours: ScalarMappable, value: float) -> tuple[float, ...]:
    """Return the colour of a value: red, green, blue and opacity."""
    return tuple(float(part) for part in colours.to_rgba(np.array([value]))[0])


def score_bar(figure: Figure, axes: Axes, view: StudyView, colours: ScalarMappable) -> None:
    """Draw the scale of the scores beside a plot."""
    end = "min" if view.score.maximise else "max"
    bar = figure.colorbar(colours, ax=axes, extend=end, aspect=30, pad=0.015)
    bar.set_label(view.score.caption, fontsize=9, color=FAINT, parse_math=False)
    bar.ax.tick_params(labelsize=8.5, colors=FAINT, length=0)
    bar.outline.set_visible(False)


def objective_axis(
    axes: Axes, which: str, objective: ObjectiveView, values: Sequence[float]
) -> None:
    """Give the axis ``which``, "x" or "y", of a plot the scale and the caption of an objective."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    caption = f"{objective.caption}, {objective.better}"
    axis.set_label_text(caption, fontsize=9, color=FAINT, parse_math=False)
    if values and min(values) > 0 and max(values) > _LOG_FROM * min(values):
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    else:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def caption(text: str) -> str:
    """The name of a setting at an axis: its end if it is long, and never read as a formula."""
    return literal(text if len(text) <= _LETTERS else f"…{text[-_LETTERS + 1 :]}")
