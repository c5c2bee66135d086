"""How much each setting of a search matters for an objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from medseg_nca.viz.canvas import FAINT, GRID, INK, save, style
from medseg_nca.viz.search_style import BEST, COMPLETE, caption, search_figure


@dataclass(frozen=True)
class Importance:
    """The importance of the settings for one objective.

    Attributes:
        share: of each setting; they sum to 1.
        chance: what a setting without any influence stays below in 19 of 20 cases, on the same
            scale.
        trials: how many complete trials this rests on.
        left_out: settings that too few of these trials have.
    """

    share: Mapping[str, float]
    chance: Mapping[str, float]
    trials: int
    left_out: Sequence[str] = ()


def plot_importance(panels: Sequence[tuple[str, Importance]], path: Path) -> Path:
    """Draw the importances of each objective as bars, each with a mark of what chance reaches.

    Args:
        panels: caption of an objective, and its importances.
        path: of the PNG.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    rows = max(len(importance.share) for _, importance in panels)
    figure = search_figure(max(6.4, 4.6 * len(panels)), 1.3 + 0.34 * rows)
    for axes, (name, importance) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        style(axes, x="share of the importance; orange: reached by chance in 1 of 20")
        axes.set_title(f"{name}, {importance.trials} complete trials", fontsize=11, color=INK,
                       loc="left", fontweight="bold", parse_math=False)  # fmt: skip
        _bars(axes, importance)
    return save(figure, path)


def _bars(axes: Axes, importance: Importance) -> None:
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    names = sorted(importance.share, key=lambda name: (-importance.share[name], name))
    for place, name in enumerate(names):
        share, chance = importance.share[name], importance.chance[name]
        clear = share > chance
        axes.barh(place, share, height=0.62, color=COMPLETE, alpha=1 if clear else 0.35)
        axes.plot([chance] * 2, [place - 0.38, place + 0.38], color=BEST, linewidth=2)
        axes.text(
            1.01, place, f"{100 * share:.0f} %", transform=axes.get_yaxis_transform(), va="center",
            fontsize=8.5, color=INK if clear else FAINT,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), [caption(name) for name in names])
    axes.tick_params(axis="y", labelsize=9, colors=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlim(0, 1.06 * max(*importance.share.values(), *importance.chance.values(), 0.1))
