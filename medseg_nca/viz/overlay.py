"""Truth and prediction drawn on the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from medseg_nca.config import LabelTable
from medseg_nca.viz.canvas import FAINT, INK, colour, headline, literal, new_figure, save
from medseg_nca.viz.slices import BoolArray, Cut, centre_planes, to_picture, window_around

HEIGHT_3D, HEIGHT_2D = 3.4, 5.6  # inches
WIDTHS = (1.0, 15.0)  # least and largest width of all panels together, inches
# More labels than these leave no room for the picture.
MOST_NAMED = 16
TRUTH, PREDICTION = "solid", (0, (2.2, 1.4))
PLANES = ("sagittal", "coronal", "axial")


def plot_case(
    image: NDArray[Any],
    truth: NDArray[Any],
    prediction: NDArray[Any],
    labels: LabelTable,
    path: Path,
    title: str = "",
    *,
    spacing: Sequence[float] | None = None,
    truth_labels: LabelTable | None = None,
    anatomical: bool = False,
) -> Path:
    """Draw the outlines of every label: truth solid, prediction dashed.

    The colour tells the label; with a single label it tells truth from prediction. A volume is
    shown in three slices through the centre of its labels, cut to their surroundings.

    Args:
        image: ``(C, *S)``; RGB for 2D images of three channels, else the first channel.
        truth: ``(*S)`` with source numbers.
        prediction: ``(*S)`` with the numbers that predictions carry.
        labels: the table of the prediction.
        path: of the PNG.
        title: above the figure.
        spacing: mm per axis, for the proportions; None: equal.
        truth_labels: the table of the truth, in the order of ``labels``; None: the same.
        anatomical: the axes run to the right, the front and the top (RAS); slices get their names
            and the left side its mark.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    others = (truth_labels or labels).labels
    masks = [
        (np.isin(truth, theirs.values), np.isin(prediction, sorted(labels.predicted_values(own))))
        for own, theirs in zip(labels.labels, others, strict=True)
    ]
    union = np.logical_or.reduce([mask for pair in masks for mask in pair])
    true = np.logical_or.reduce([pair[0] for pair in masks])
    planes = centre_planes(true if true.any() else union)
    windows = [_window(plane.of(union), plane) for plane in planes]
    pictures = [to_picture(image, p)[w] for p, w in zip(planes, windows, strict=True)]
    figure, grid = _canvas(pictures, planes, spacing or (1.0,) * truth.ndim)
    for axes, picture, plane, window in zip(grid, pictures, planes, windows, strict=True):
        width = 1.7 if max(picture.shape) <= 128 else 1.1
        for number, pair in enumerate(masks):
            _outline(axes, plane.of(pair[0])[window], colour(number), TRUTH, width)
            second = colour(number + (len(masks) == 1))
            _outline(axes, plane.of(pair[1])[window], second, PREDICTION, width)
        _caption(axes, plane, anatomical)
    _legend(figure, labels.names, [n for n, pair in enumerate(masks) if any(m.any() for m in pair)])
    headline(figure, title)
    return save(figure, path)


def _window(mask: BoolArray, plane: Cut) -> tuple[slice, slice]:
    return window_around(mask) if plane.dims == 3 else (slice(None), slice(None))


def _canvas(
    pictures: Sequence[NDArray[np.float32]], planes: Sequence[Cut], spacing: Sequence[float]
) -> tuple[Figure, list[Axes]]:
    """Panels of one height, side by side, with the pictures in them."""
    ratios = [
        picture.shape[0] * spacing[plane.axes[0]] / (picture.shape[1] * spacing[plane.axes[1]])
        for picture, plane in zip(pictures, planes, strict=True)
    ]
    height = HEIGHT_3D if len(planes) > 1 else HEIGHT_2D
    width = min(max(height * sum(ratios), WIDTHS[0]), WIDTHS[1])
    height = min(height, width / sum(ratios))
    figure = new_figure(max(width + 0.3 * len(planes), 4.5), height + 1.0)
    grid = figure.subplots(1, len(planes), squeeze=False, width_ratios=ratios)[0]
    for axes, picture, plane in zip(grid, pictures, planes, strict=True):
        _show(axes, picture, plane, spacing)
    return figure, list(grid)


def _show(axes: Axes, picture: NDArray[np.float32], plane: Cut, spacing: Sequence[float]) -> None:
    across, up = plane.axes
    # 2D images have their origin at the top, as every image viewer shows them.
    axes.imshow(
        np.swapaxes(picture, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest",
        origin="lower" if plane.dims == 3 else "upper", aspect=spacing[up] / spacing[across],
    )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _outline(axes: Axes, mask: BoolArray, edge: str, dashes: Any, width: float) -> None:
    if not mask.any():
        return
    # A margin closes the outline where the mask touches the edge of what is shown.
    padded = np.pad(mask.astype(float), 1)
    x, y = (np.arange(n) - 1 for n in padded.shape)
    lines = axes.contour(x, y, padded.T, levels=[0.5], colors=[edge], linewidths=width)
    lines.set_linestyle([dashes])
    if dashes == TRUTH:
        lines.set_path_effects([withStroke(linewidth=width + 1.4, foreground="#00000070")])


def _caption(axes: Axes, plane: Cut, anatomical: bool) -> None:
    if plane.axis is None:
        return
    name = PLANES[plane.axis] if anatomical else f"axis {plane.axis + 1}"
    axes.set_xlabel(f"{name}, slice {plane.index}", fontsize=9, color=FAINT)
    if anatomical and plane.axis != 0:
        axes.text(
            0.02, 0.5, "L", transform=axes.transAxes, color="white", fontsize=10, va="center",
            path_effects=[withStroke(linewidth=1.4, foreground="black")],
        )  # fmt: skip


def _legend(figure: Figure, names: Sequence[str], present: Sequence[int]) -> None:
    """Name the labels; of many, some of those that are there."""
    words = [literal(name) for name in names]
    entries: list[tuple[str, str, Any, float]]
    if len(names) == 1:
        entries = [
            (f"{words[0]}: truth", colour(0), TRUTH, 1.7),
            (f"{words[0]}: prediction", colour(1), PREDICTION, 1.7),
        ]
    else:
        named = range(len(words)) if len(words) <= MOST_NAMED else present[:MOST_NAMED]
        entries = [(words[number], colour(number), TRUTH, 4.0) for number in named]
        if len(words) > MOST_NAMED and len(present) > MOST_NAMED:
            entries.append((f"and {len(present) - MOST_NAMED} more", FAINT, "none", 0.0))
        entries += [("truth", INK, TRUTH, 1.7), ("prediction", INK, PREDICTION, 1.7)]
    handles = [
        Line2D([], [], color=shade, linestyle=dashes, linewidth=width)
        for _, shade, dashes, width in entries
    ]
    figure.legend(
        handles, [word for word, *_ in entries], loc="outside lower center", frameon=False,
        ncols=min(len(entries), 6), fontsize=9, labelcolor=INK, handlelength=2.4,
    )  # fmt: skip
