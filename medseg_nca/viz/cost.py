"""How time and memory grow with the size of a task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from medseg_nca.viz.canvas import FAINT, INK, colour, headline, new_figure, save, style

# Place on the axis, milliseconds, megabytes.
Curve = list[tuple[float, float, float]]


def plot_cost(
    curves: Mapping[str, Curve], path: Path, *, x: str, unit: str, title: str = ""
) -> Path:
    """Draw time, on a logarithmic axis, and peak memory beside it.

    Args:
        curves: points of each engine.
        path: of the PNG.
        x: caption of the axis that they share.
        unit: of the times.
        title: above the figure.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    figure = new_figure(9.2, 3.6)
    headline(figure, title)
    if not any(curves.values()):
        figure.text(0.5, 0.5, "nothing measured", ha="center", color=FAINT)
        return save(figure, path)
    time, memory = figure.subplots(1, 2)
    for axes, index, heading, y in (
        (time, 1, "Time", unit),
        (memory, 2, "Peak memory", "MB"),
    ):
        style(axes, title=heading, x=x, y=y)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for number, (name, curve) in enumerate(curves.items()):
            points = sorted(curve)
            axes.plot([p[0] for p in points], [p[index] for p in points], marker="o",
                      markersize=3.5, linewidth=1.6, color=colour(number), label=name)  # fmt: skip
    time.set_yscale("log")
    memory.set_ylim(bottom=0)
    time.legend(fontsize=8, frameon=False, labelcolor=INK)
    return save(figure, path)
