"""Estimates of quality against the truth: curves of risk and coverage, and a scatter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg_nca.viz.canvas import FAINT, INK, PALETTE, headline, new_figure, save, style

_SHADES = (PALETTE[6], PALETTE[0], PALETTE[2], PALETTE[3])


@dataclass(frozen=True)
class Estimated:
    """Masks with their true and estimated Dice; all four have one length.

    Attributes:
        true: true Dice.
        predicted: estimated Dice.
        low: lower ends of the intervals.
        high: upper ends.
    """

    true: Sequence[float]
    predicted: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def plot_risk_coverage(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: Path,
    *,
    best: tuple[Sequence[float], Sequence[float]],
    title: str = "",
) -> Path:
    """Draw the risk of the masks that are kept against their share, a line for each score.

    Args:
        curves: coverage and risk of each score, by name.
        path: of the PNG.
        best: coverage and risk of the order of the true Dice; its last risk is that of a random
            order.
        title: above the figure.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    figure = new_figure(7.0, 4.4)
    axes = style(
        figure.subplots(), x="share of the masks that are kept (coverage)",
        y="mean of 1 − Dice over them (risk)",
    )  # fmt: skip
    chance = best[1][-1]
    axes.plot([0, 1], [chance, chance], color=FAINT, linestyle=":", label="random order")
    axes.plot(*best, color=FAINT, linestyle="--", label="best order (true Dice)")
    for shade, (name, (coverage, risk)) in zip(_SHADES, curves.items(), strict=False):
        marker = "o" if len(coverage) == 1 else ""
        axes.plot(coverage, risk, color=shade, linewidth=1.8, marker=marker, label=name)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8.5, frameon=False, labelcolor=INK)
    headline(figure, title)
    return save(figure, path)


def plot_estimates(groups: Mapping[str, Estimated], path: Path, *, title: str = "") -> Path:
    """Draw estimated against true Dice with intervals, a colour for each group of masks.

    Args:
        groups: the masks by name of the group.
        path: of the PNG.
        title: above the figure.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    figure = new_figure(6.0, 5.6)
    axes = style(figure.subplots(), x="true Dice", y="predicted Dice, with its interval")
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1)
    # The larger group comes first, so that the smaller one lies on top of it.
    ordered = sorted(groups.items(), key=lambda item: -len(item[1].true))
    shades = dict(zip(groups, _SHADES, strict=False))
    for name, masks in ordered:
        shade = shades[name]
        axes.vlines(masks.true, masks.low, masks.high, color=shade, linewidth=0.7, alpha=0.25)
        axes.scatter(
            masks.true, masks.predicted, s=13, color=shade, alpha=0.75, linewidths=0, label=name
        )
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    legend = axes.legend(fontsize=8.5, frameon=False, labelcolor=INK, loc="upper left")
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    headline(figure, title)
    return save(figure, path)
