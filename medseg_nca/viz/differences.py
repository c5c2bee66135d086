"""Two models side by side: the paired differences of their cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg_nca.viz.canvas import FAINT, INK, colour, headline, literal, new_figure, save, style


@dataclass(frozen=True)
class Paired:
    """The differences B - A of one label.

    Attributes:
        differences: one for each case that both have.
        mean: of the differences.
        interval: of the mean, if there is one.
    """

    differences: Sequence[float]
    mean: float
    interval: tuple[float, float] | None


def plot_differences(
    rows: Mapping[str, Paired], path: Path, *, heading: str, title: str = "", better: str = ""
) -> Path:
    """Draw a line for each label: the cases as points, their mean with its interval.

    Args:
        rows: by label.
        path: of the PNG.
        heading: what the axis shows, with its unit.
        title: above the figure.
        better: a word on which side is better, below the axis.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    figure = new_figure(7.6, 1.6 + 0.62 * len(rows))
    axes = style(figure.subplots(), x=f"{heading}   {better}".rstrip())
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color="#dfe4ea", linewidth=0.8)
    axes.axvline(0, color=FAINT, linewidth=1.2)
    rng = np.random.default_rng(0)
    for place, (name, row) in enumerate(rows.items()):
        shade = FAINT if name in {"merged", "mean"} else colour(place)
        jitter = place + rng.uniform(-0.17, 0.17, len(row.differences))
        axes.scatter(row.differences, jitter, s=14, color=shade, alpha=0.55, linewidths=0)
        if row.interval is not None:
            axes.plot(row.interval, [place, place], color=INK, linewidth=2.4, zorder=3)
        axes.scatter([row.mean], [place], marker="D", s=46, color=shade, edgecolors=INK, zorder=4)
    axes.set_yticks(range(len(rows)), [literal(name) for name in rows])
    axes.tick_params(axis="y", labelsize=9.5, colors=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    headline(figure, title)
    return save(figure, path)
