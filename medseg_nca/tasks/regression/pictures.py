"""Draw real-valued predictions: cases beside their truth, and agreement over many voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medseg_nca.datasets.pairs import Pair
from medseg_nca.io.volume import Volume
from medseg_nca.tasks.regression.pairs import read_pair
from medseg_nca.tasks.regression.predictor import RealPredictor
from medseg_nca.viz.canvas import FAINT, headline, literal, new_figure, save, style
from medseg_nca.viz.slices import Cut, fullest_plane, to_picture

_PANEL = 2.7  # inches
_BINS = 80


@dataclass(frozen=True)
class PairExample:
    """One target channel of a case that is drawn.

    Attributes:
        id: id of the case.
        word: "best", "median" or "worst".
        score: the score of the case, in words.
        image: the image as it was read.
        truth, predicted: arrays ``(*S)``; the truth is NaN where it is not known.
    """

    id: str
    word: str
    score: str
    image: Volume
    truth: NDArray[Any]
    predicted: NDArray[Any]


def draw_example(example: PairExample, label: str, path: Path) -> Path:
    """Draw image, truth, prediction and error of a case; of a volume, draw the fullest slice.

    Truth and prediction share a colour scale; the colour scale of the error is symmetric around 0.

    Args:
        example: the case.
        label: what the values are called, with their unit.
        path: the PNG file.

    Raises:
        OutputError: if the file cannot be written.
    """
    plane = fullest_plane(~np.isnan(example.truth))
    truth, predicted = plane.of(example.truth), plane.of(example.predicted)
    known = truth[~np.isnan(truth)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    error = predicted - truth
    reach = float(np.nanpercentile(np.abs(error), 99)) if known.size else 1.0
    reach = reach or 1.0
    picture = to_picture(example.image.array, plane)
    figure = new_figure(4 * _PANEL + 1.2, _PANEL + 0.9)
    panels = figure.subplots(1, 4, squeeze=False)[0]
    proportions = _aspect(example.image, plane)
    _show(panels[0], picture, "image", plane, proportions, cmap="gray", vmin=0, vmax=1)
    for axes, array, title in ((panels[1], truth, "truth"), (panels[2], predicted, "prediction")):
        shown = _show(axes, array, title, plane, proportions, cmap="viridis", vmin=low, vmax=high)
    _bar(figure, shown, [panels[1], panels[2]], label)
    shown = _show(
        panels[3], error, "prediction - truth", plane, proportions,
        cmap="RdBu_r", vmin=-reach, vmax=reach,
    )  # fmt: skip
    _bar(figure, shown, [panels[3]], "")
    headline(figure, f"{example.id}: {example.word}, {example.score}")
    return save(figure, path)


def _aspect(image: Volume, plane: Cut) -> float:
    across, up = plane.axes
    return image.spacing[up] / image.spacing[across]


def _show(
    axes: Axes, array: NDArray[Any], title: str, plane: Cut, aspect: float, **how: Any
) -> Any:
    shown = axes.imshow(
        np.swapaxes(array, 0, 1), interpolation="nearest", aspect=aspect,
        origin="lower" if plane.dims == 3 else "upper", **how,
    )  # fmt: skip
    axes.set_title(title, fontsize=10, color=FAINT, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return shown


def _bar(figure: Figure, shown: Any, panels: Sequence[Axes], label: str) -> None:
    bar = figure.colorbar(shown, ax=list(panels), shrink=0.85, pad=0.02)
    bar.set_label(label, fontsize=8.5, color=FAINT)
    bar.ax.tick_params(labelsize=8, colors=FAINT, length=0)
    bar.outline.set_visible(False)


def draw_agreement(truth: NDArray[Any], predicted: NDArray[Any], label: str, path: Path) -> Path:
    """Draw prediction against truth, and their difference against their mean.

    The second panel is the plot of Bland and Altman (1986): the mean difference, and 1.96 standard
    deviations on both sides of it.

    Args:
        truth: the truth ``(n,)`` of known voxels of many cases.
        predicted: the prediction ``(n,)`` for the same voxels.
        label: what the values are called, with their unit.
        path: the PNG file.

    Raises:
        OutputError: if the file cannot be written.
    """
    figure = new_figure(10.0, 4.2)
    left, right = figure.subplots(1, 2)
    low, high = float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))
    high = high if high > low else low + 1
    left.hist2d(
        truth, predicted, bins=_BINS, range=((low, high),) * 2, norm=LogNorm(), cmap="viridis"
    )
    left.plot([low, high], [low, high], color="#d55e00", linewidth=1)
    style(left, title="prediction against truth", x=f"truth, {label}", y="prediction")
    difference, middle = predicted - truth, (predicted + truth) / 2
    reach = float(np.percentile(np.abs(difference), 99.5)) or 1.0
    right.hist2d(
        middle, difference, bins=_BINS, range=((low, high), (-reach, reach)), norm=LogNorm(),
        cmap="viridis",
    )  # fmt: skip
    mean, sd = float(difference.mean()), float(difference.std())
    for value, dashes in ((mean, "-"), (mean - 1.96 * sd, "--"), (mean + 1.96 * sd, "--")):
        right.axhline(value, color="#d55e00", linewidth=1, linestyle=dashes)
    style(
        right, title="difference against mean (Bland-Altman)", x=f"mean, {label}",
        y="prediction - truth",
    )  # fmt: skip
    return save(figure, path)


def draw_validation(predictor: RealPredictor, pairs: Sequence[Pair], folder: Path) -> list[Path]:
    """Draw the worst and the median validation case by RMSE, and return the files."""
    facts = predictor.facts
    scored = []
    for pair in pairs:
        read = read_pair(pair, facts.unknown)
        found = predictor.predict(read.image).values.array
        errors = np.sqrt(np.nanmean((found - read.target) ** 2, axis=tuple(range(1, found.ndim))))
        spreads = np.array([target.spread for target in facts.targets])
        scored.append((float((errors / spreads).mean()), float(errors[0]), pair.id, read, found))
    if not scored:
        return []
    scored.sort(key=lambda row: row[0], reverse=True)
    paths = []
    for word, place in (("worst", 0), ("median", len(scored) // 2)):
        _, error, name, read, found = scored[place]
        example = PairExample(
            name, f"{word} validation case", f"RMSE {error:.3g} {facts.unit}".rstrip(),
            read.image, read.target[0], found[0],
        )  # fmt: skip
        path = folder / f"validation_{word}.png"
        paths.append(draw_example(example, axis_label(facts.names[0], facts.unit), path))
    return paths


def axis_label(name: str, unit: str) -> str:
    """Return the caption of an axis, in which ``$`` is escaped for Matplotlib."""
    return literal(f"{name}, {unit}" if unit else name)
