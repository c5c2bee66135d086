"""All metrics of one segmented case, per label and for the labels merged into one.

Empty masks
    A label that neither the truth nor the prediction has in a case says nothing about the model's
    accuracy there: every ratio and distance is None and leaves the means (as nnU-Net does); the
    volume difference is 0. A label that only one of the two has is a miss: Dice and NSD are 0 and
    HD, HD95 and ASSD are the length of the image's diagonal, the worst that can be (as in BraTS and
    as Metrics Reloaded advises). Leaving such cases out would reward a model that finds nothing.
    A ratio whose denominator is 0 is None: sensitivity and relative difference without truth,
    precision without a prediction. Summaries say how many cases each number stands on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import LabelTable
from medseg_nca.errors import DataError
from medseg_nca.metrics.definitions import MERGED, Values
from medseg_nca.metrics.overlap import BoolArray, Counts, label_masks
from medseg_nca.metrics.surface import SurfaceMetrics, surface_metrics


def case_metrics(
    prediction: NDArray[Any],
    truth: NDArray[Any],
    labels: LabelTable,
    spacing: Sequence[float],
    tolerance_mm: float,
    *,
    truth_labels: LabelTable | None = None,
) -> dict[str, Values]:
    """Compare a predicted label map with the true one.

    Args:
        prediction: integers ``(x, y)`` or ``(x, y, z)`` with the numbers that predictions carry
            (``Label.written``).
        truth: integers of the same shape with source numbers (``Label.values``).
        labels: the table of the prediction.
        spacing: mm per axis in array order.
        tolerance_mm: of the NSD.
        truth_labels: the table of the truth, its labels in the order of ``labels``; None: the same.

    Returns:
        For each label's name, and for ``"merged"``, a value or None for every metric in
        :mod:`~medseg_nca.metrics.definitions`. Volumes are in mL, for 2D images areas in mm^2.

    Raises:
        DataError: if the shapes differ, or a label is called "merged".
    """
    if MERGED in labels.names:
        raise DataError(f"A label cannot be called {MERGED!r}: that is the union of all labels.")
    pairs = label_masks(prediction, truth, labels, truth_labels)
    merged = [np.logical_or.reduce(masks) for masks in zip(*pairs.values(), strict=True)]
    pairs[MERGED] = merged[0], merged[1]
    return {
        name: mask_metrics(found, true, spacing, tolerance_mm)
        for name, (found, true) in pairs.items()
    }


def mask_metrics(
    prediction: BoolArray, truth: BoolArray, spacing: Sequence[float], tolerance_mm: float
) -> Values:
    """The values of all metrics for two masks of one shape."""
    counts = Counts.of(prediction, truth)
    # 3D: mm^3 to mL. A 2D image has no volume: the area in mm^2 takes its place.
    size = float(np.prod(spacing)) * (1e-3 if truth.ndim == 3 else 1.0)
    surface: Values
    if counts.prediction and counts.truth:
        surface = dict(asdict(surface_metrics(prediction, truth, spacing, tolerance_mm)))
    else:
        surface = _surface_of_nothing(counts, truth.shape, spacing)
    return {
        "dice": counts.dice,
        **surface,
        "sensitivity": counts.sensitivity,
        "precision": counts.precision,
        "volume_difference": (counts.prediction - counts.truth) * size,
        "relative_volume_difference": counts.relative_difference,
        "volume": counts.prediction * size,
        "truth_volume": counts.truth * size,
    }


def _surface_of_nothing(counts: Counts, shape: tuple[int, ...], spacing: Sequence[float]) -> Values:
    """What stands for the distances when a mask is empty; see the module's docstring."""
    if not counts.prediction and not counts.truth:
        return {"hd": None, "hd95": None, "assd": None, "nsd": None}
    worst = float(np.linalg.norm(np.multiply(shape, spacing)))
    return dict(asdict(SurfaceMetrics(hd=worst, hd95=worst, assd=worst, nsd=0.0)))
