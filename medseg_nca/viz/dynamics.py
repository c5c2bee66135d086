"""Figures of what an automaton does over time, under damage, and when its image changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from medseg_nca.viz.canvas import FAINT, GRID, INK, colour, new_figure, save, style

# Points of a line; a value that is not there leaves a gap.
Line = Sequence[tuple[float, float | None]]
# A curve that grows so many times is drawn on a logarithmic axis.
_STEEP = 50


def plot_lines(
    lines: Mapping[str, Line], path: Path, *, title: str = "", x: str = "", y: str = "",
    mark: float | None = None, logarithmic: bool = False,
) -> Path:  # fmt: skip
    """Draw lines over one axis.

    Args:
        lines: by name.
        path: of the PNG.
        title: above the figure.
        x: what the horizontal axis shows.
        y: what the vertical axis shows.
        mark: a place on the x axis that is marked by a dashed line.
        logarithmic: whether the x axis doubles from tick to tick.

    Raises:
        OutputError: if the file cannot be written.
    """
    figure = new_figure(6.4, 3.6)
    axes = style(figure.subplots(), title=title, x=x, y=y)
    _draw_lines(axes, lines, mark)
    if logarithmic:
        axes.set_xscale("log", base=2)
        ticks = sorted({point for line in lines.values() for point, _ in line})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    _legend(axes, lines)
    return save(figure, path)


def plot_panels(
    panels: Mapping[str, Mapping[str, Line]], path: Path, *, x: str, mark: float | None = None
) -> Path:
    """Draw a panel of lines for each title, two in a row.

    Raises:
        OutputError: if the file cannot be written.
    """
    rows = -(-len(panels) // 2)
    figure = new_figure(9.6, 3.0 * rows)
    grid = figure.subplots(rows, 2, squeeze=False).flatten()
    for axes, (title, lines) in zip(grid, panels.items(), strict=False):
        style(axes, title=title, x=x)
        _draw_lines(axes, lines, mark)
        values = [v for line in lines.values() for _, v in line if v is not None and v > 0]
        if values and max(values) > _STEEP * min(values):
            axes.set_yscale("log")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    _legend(grid[0], next(iter(panels.values())))
    return save(figure, path)


def plot_pairs(
    pairs: Mapping[str, tuple[float | None, float | None]], path: Path, *, names: tuple[str, str],
    mark: float | None = None, marked: str = "",
) -> Path:  # fmt: skip
    """Draw two points in a row for each name.

    Args:
        pairs: two values by name.
        path: of the PNG.
        names: of the two values.
        mark: a value that is marked by a dashed line.
        marked: what it is.

    Raises:
        OutputError: if the file cannot be written.
    """
    figure = new_figure(7.6, 1.9 + 0.3 * len(pairs))
    axes = style(figure.subplots())
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    for number, name in enumerate(names):
        values = [_gap(pair[number]) for pair in pairs.values()]
        marker = "o" if number == 0 else "D"
        axes.scatter(
            values, range(len(pairs)), s=34, marker=marker, color=colour(number), label=name,
            zorder=3,
        )  # fmt: skip
    if mark is not None:
        axes.axvline(mark, color=FAINT, linewidth=1, linestyle="--", label=marked)
    axes.set_yticks(range(len(pairs)), list(pairs))
    axes.tick_params(axis="y", labelsize=8.5, colors=INK)
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.legend(
        fontsize=8, frameon=False, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1.0),
    )  # fmt: skip
    return save(figure, path)


def plot_distances(maps: Mapping[str, NDArray[Any]], path: Path) -> Path:
    """Draw how far each two states are apart, a map for each name.

    Args:
        maps: distances ``(n, n)`` by name.
        path: of the PNG.

    Raises:
        OutputError: if the file cannot be written.
    """
    figure = new_figure(3.1 * len(maps) + 0.4, 3.2)
    grid = figure.subplots(1, len(maps), squeeze=False)[0]
    for axes, (name, distances) in zip(grid, maps.items(), strict=True):
        style(axes, title=name, x="step of the window", y="step of the window")
        axes.grid(visible=False)
        shown = axes.imshow(distances, cmap="viridis", origin="lower", vmin=0)
        bar = figure.colorbar(shown, ax=axes, shrink=0.75)
        bar.ax.tick_params(labelsize=7.5, colors=FAINT, length=0)
    return save(figure, path)


def plot_disagreement(
    image: NDArray[Any], disagreement: NDArray[Any], path: Path, *, unit: str
) -> Path:
    """Draw a slice of an image beside the same slice with the disagreement on it.

    Args:
        image: ``(x, y)``, or ``(x, y, z)``, of which the slice with the most disagreement is drawn.
        disagreement: on the same grid.
        path: of the PNG.
        unit: what the numbers are.

    Raises:
        OutputError: if the file cannot be written.
    """
    if image.ndim == 3:
        place = int(disagreement.sum((0, 1)).argmax())
        image, disagreement = image[..., place], disagreement[..., place]
    figure = new_figure(7.0, 3.4)
    low, high = np.percentile(image, (1, 99))
    plain, marked = figure.subplots(1, 2)
    for axes in (plain, marked):
        axes.set_axis_off()
        axes.imshow(image.T, cmap="gray", vmin=float(low), vmax=float(max(high, low + 1e-6)))
    over = np.ma.masked_less_equal(disagreement.T, 0)
    shown = marked.imshow(over, cmap="plasma", vmin=0, alpha=0.85, interpolation="nearest")
    bar = figure.colorbar(shown, ax=marked, shrink=0.8)
    bar.set_label(unit, fontsize=8, color=FAINT)
    bar.ax.tick_params(labelsize=7.5, colors=FAINT, length=0)
    return save(figure, path)


def _draw_lines(axes: Axes, lines: Mapping[str, Line], mark: float | None) -> None:
    for number, (name, line) in enumerate(lines.items()):
        marker = "o" if len(line) <= 12 else ""
        axes.plot(
            [x for x, _ in line], [_gap(y) for _, y in line], color=colour(number), marker=marker,
            markersize=3.5, linewidth=1.6, label=name, linestyle="-" if number < 7 else ":",
        )  # fmt: skip
    if mark is not None:
        axes.axvline(mark, color=FAINT, linewidth=1, linestyle="--")


def _legend(axes: Axes, lines: Mapping[str, Line]) -> None:
    if len(lines) > 1:
        axes.legend(fontsize=7.5, frameon=False, labelcolor=INK)


def _gap(value: float | None) -> float:
    return math.nan if value is None else value
