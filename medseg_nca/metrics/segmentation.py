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

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import LabelTable
from medseg_nca.errors import DataError
from medseg_nca.metrics.definitions import MERGED, METRICS, Values, error_of
from medseg_nca.metrics.masks.base import MaskPair
from medseg_nca.metrics.overlap import BoolArray, label_masks


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
        :data:`~medseg_nca.metrics.definitions.METRICS`. Volumes are in mL, for 2D images areas in
        mm^2.

    Raises:
        DataError: if the shapes differ, or a label is called "merged".
        PluginError: if a metric of another package fails or returns no finite number.
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
    prediction: BoolArray,
    truth: BoolArray,
    spacing: Sequence[float],
    tolerance_mm: float,
    names: Iterable[str] | None = None,
) -> Values:
    """Compute metrics of two masks of one shape.

    Args:
        prediction: boolean, ``(x, y)`` or ``(x, y, z)``.
        truth: boolean, the same shape.
        spacing: mm per axis in array order.
        tolerance_mm: of the NSD.
        names: of the metrics; None is all. What none of them needs is not computed.

    Raises:
        PluginError: if a metric of another package fails or returns no finite number.
    """
    pair = MaskPair(prediction, truth, tuple(spacing), tolerance_mm)
    return {name: _value(name, pair) for name in (METRICS if names is None else names)}


def _value(name: str, pair: MaskPair) -> float | None:
    try:
        value = METRICS[name].compute(pair)
        if value is None:
            return None
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"the value is {number}, which is no finite number")
    except Exception as error:
        named = error_of(name, f"{type(error).__name__}: {error}")
        if named is None:
            raise
        raise named from error
    return number
