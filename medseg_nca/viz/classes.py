"""How a classification went: who is taken for whom, how true probabilities are, the mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from medseg_nca.viz.canvas import FAINT, GRID, INK, colour, headline, new_figure, save, style
from medseg_nca.viz.slices import Cut, centre_planes, to_picture

# With more classes the names would overlap, and the numbers in the cells.
MOST_NAMED, MOST_NUMBERED = 40, 20
_LETTERS = 18
_COLUMNS = 6


def plot_confusion(counts: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> Path:
    """Draw the confusion matrix: rows are the truth, a shade is the share of its row.

    Args:
        counts: ``K`` rows of ``K`` numbers.
        classes: names of the K classes.
        path: of the PNG.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    table = np.array(counts)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = min(max(3.2 + 0.32 * len(classes), 4.0), 12.0)
    figure = new_figure(side, side)
    axes = style(figure.subplots(), title="Confusion", x="predicted", y="truth")
    axes.grid(False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    numbers = range(len(classes))
    if len(classes) <= MOST_NAMED:
        names = [_short(name) for name in classes]
        upright = max(len(name) for name in names) > 3
        axes.set_xticks(numbers, names, rotation=90 if upright else 0, parse_math=False)
        axes.set_yticks(numbers, names, parse_math=False)
    if len(classes) <= MOST_NUMBERED:
        for row, column in np.argwhere(table):
            shade = "white" if shares[row, column] > 0.5 else INK
            axes.text(column, row, table[row, column], ha="center", va="center", fontsize=8,
                      color=shade)  # fmt: skip
    return save(figure, path)


def plot_reliability(rows: Sequence[Mapping[str, Any]], error: float | None, path: Path) -> Path:
    """Draw how often answers of each range of probability are right.

    Args:
        rows: with ``low``, ``high``, ``n``, ``probability`` and ``accuracy``, see
            :func:`medseg_nca.metrics.classification.reliability`.
        error: the expected calibration error, for the title.
        path: of the PNG.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    figure = new_figure(4.6, 5.0)
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    title = "Reliability" if error is None else f"Reliability (ECE {error:.3f})"
    style(upper, title=title, y="share that is right")
    upper.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--")
    width = [row["high"] - row["low"] for row in rows]
    lows = [row["low"] for row in rows]
    upper.bar(lows, [row["accuracy"] for row in rows], width, align="edge", color=colour(1),
              edgecolor="white")  # fmt: skip
    upper.plot([row["probability"] for row in rows], [row["accuracy"] for row in rows], "o",
               color=INK, markersize=4)  # fmt: skip
    upper.set_ylim(0, 1.02)
    upper.set_xlim(0, 1)
    style(lower, x="probability of the answer", y="answers")
    lower.bar(lows, [row["n"] for row in rows], width, align="edge", color=GRID, edgecolor="white")
    return save(figure, path)


def plot_gallery(
    images: Sequence[NDArray[Any]], titles: Sequence[str], path: Path, title: str = ""
) -> Path:
    """Draw images side by side, each with two lines of text.

    Args:
        images: each ``(C, *S)``; of a volume the middle slice is shown.
        titles: a text for each.
        path: of the PNG.
        title: above the figure.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
        ValueError: if there is no image, or not one text for each.
    """
    if not images or len(images) != len(titles):
        raise ValueError(f"plot_gallery needs an image and a text for each, got {len(images)}")
    columns = min(len(images), _COLUMNS)
    rows = ceil(len(images) / columns)
    figure = new_figure(max(1.9 * columns, 4.0), 2.5 * rows + 0.4)
    headline(figure, title)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places:
        axes.set_axis_off()
    for axes, image, text in zip(places, images, titles, strict=False):
        picture = shown(image)
        axes.imshow(np.swapaxes(picture, 0, 1), cmap="gray", vmin=0, vmax=1)
        axes.set_title(text, fontsize=8, color=INK, parse_math=False)
    return save(figure, path)


def shown(image: NDArray[Any]) -> NDArray[np.float32]:
    """What is shown of ``(C, *S)``: all of a picture, the middle slice of a volume."""
    return to_picture(image, middle(image.ndim - 1, image.shape[1:]), 0, 100)


def middle(dims: int, shape: Sequence[int]) -> Cut:
    """The plane that is shown of an image of this shape."""
    return centre_planes(np.zeros(tuple(shape), bool))[0] if dims == 3 else Cut(None, 0, 2)


def class_colours(count: int) -> list[tuple[int, int, int]]:
    """A colour for each class: red, green and blue from 0 to 255."""
    name = "tab10" if count <= 10 else "tab20" if count <= 20 else "hsv"
    places = range(count) if count <= 20 else np.linspace(0, 1, count, endpoint=False)
    shades = [matplotlib.colormaps[name](place)[:3] for place in places]
    return [tuple(round(255 * part) for part in shade) for shade in shades]  # type: ignore[misc]


def _short(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
