"""How a metric is spread over the cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from medseg_nca.viz.canvas import FAINT, INK, colour, headline, literal, new_figure, save, style

Spread = Mapping[str, Sequence[float | None]]


def plot_boxes(panels: Mapping[str, Spread], path: Path, title: str = "") -> Path:
    """Draw a box plot for each metric, a box for each label, and every case as a point.

    Boxes span the quartiles, whiskers reach to the last case within 1.5 times that span (Tukey), a
    diamond is the mean.

    Args:
        panels: heading of a metric to its values by label; None where a case has no value.
        path: of the PNG.
        title: above the figure.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    boxes = max((len(spread) for spread in panels.values()), default=1)
    columns = min(len(panels), 3) or 1
    rows = -(-len(panels) // columns) or 1
    figure = new_figure(columns * max(2.6, 0.9 + 0.75 * boxes), 3.3 * rows + 0.3)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (heading, spread) in zip(grid, panels.items(), strict=False):
        _panel(style(axes, title=heading), spread)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    headline(figure, title)
    return save(figure, path)


def _panel(axes: Axes, spread: Spread) -> None:
    rng = np.random.default_rng(0)
    for place, (name, values) in enumerate(spread.items()):
        known = np.array([v for v in values if v is not None], dtype=float)
        shade = FAINT if name == "merged" else colour(place)
        if not known.size:
            axes.text(place, 0.5, "none", ha="center", color=FAINT, fontsize=8.5,
                      transform=axes.get_xaxis_transform())  # fmt: skip
            continue
        drawn = axes.boxplot(
            [known], positions=[place], widths=0.5, showfliers=False, showmeans=True,
            patch_artist=True, manage_ticks=False,
            boxprops={"facecolor": f"{shade}45", "edgecolor": shade, "linewidth": 1.2},
            medianprops={"color": INK, "linewidth": 1.6},
            whiskerprops={"color": shade}, capprops={"color": shade},
            meanprops={"marker": "D", "markersize": 4.5, "markerfacecolor": "white",
                       "markeredgecolor": INK},
        )  # fmt: skip
        drawn["means"][0].set_zorder(4)
        jitter = place + rng.uniform(-0.16, 0.16, known.size)
        axes.scatter(jitter, known, s=11, color=shade, alpha=0.75, linewidths=0, zorder=3)
    axes.set_xticks(range(len(spread)), [_short(name) for name in spread])
    axes.set_xlim(-0.6, len(spread) - 0.4)
    if len(spread) > 4:
        axes.tick_params(axis="x", rotation=30)


def _short(name: str) -> str:
    """A label's name at the axis: shortened, and never read as a formula."""
    return literal(name if len(name) <= 14 else f"{name[:13]}…")
