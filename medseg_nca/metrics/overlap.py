"""Metrics that count voxels: Dice, sensitivity, precision and volumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import LabelTable
from medseg_nca.errors import DataError

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Counts:
    """Voxels of two masks.

    Attributes:
        both: in the prediction and in the truth (true positives).
        prediction: in the prediction.
        truth: in the truth.
    """

    both: int
    prediction: int
    truth: int

    @classmethod
    def of(cls, prediction: BoolArray, truth: BoolArray) -> Counts:
        """Count the voxels of two masks of one shape."""
        both = np.count_nonzero(prediction & truth)
        return cls(int(both), int(np.count_nonzero(prediction)), int(np.count_nonzero(truth)))

    @property
    def dice(self) -> float | None:
        """``2 |P and T| / (|P| + |T|)`` (Dice 1945); None if both are empty."""
        return ratio(2 * self.both, self.prediction + self.truth)

    @property
    def sensitivity(self) -> float | None:
        """Share of the truth that was found; None without truth."""
        return ratio(self.both, self.truth)

    @property
    def precision(self) -> float | None:
        """Share of the prediction that is right; None without a prediction."""
        return ratio(self.both, self.prediction)

    @property
    def relative_difference(self) -> float | None:
        """``(|P| - |T|) / |T|``; None without truth."""
        return ratio(self.prediction - self.truth, self.truth)


def ratio(part: float, whole: float) -> float | None:
    """``part / whole``, None where there is nothing to divide by."""
    return part / whole if whole else None


def label_masks(
    prediction: NDArray[Any],
    truth: NDArray[Any],
    labels: LabelTable,
    truth_labels: LabelTable | None = None,
) -> dict[str, tuple[BoolArray, BoolArray]]:
    """Prediction and truth of each label as masks.

    Args:
        prediction: integers ``(*S)`` with the numbers that predictions carry.
        truth: integers ``(*S)`` with source numbers.
        labels: the table of the prediction.
        truth_labels: the table of the truth, labels in the order of ``labels``; None: the same.

    Raises:
        DataError: if the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise DataError(
            f"The prediction has the shape {prediction.shape}, the truth {truth.shape}.",
            hint="Both must be on the grid of the source label map.",
        )
    others = (truth_labels or labels).labels
    return {
        own.name: (
            np.isin(prediction, sorted(labels.predicted_values(own))),
            np.isin(truth, other.values),
        )
        for own, other in zip(labels.labels, others, strict=True)
    }


def dice_by_label(
    prediction: NDArray[Any], truth: NDArray[Any], labels: LabelTable
) -> dict[str, float | None]:
    """Dice of each label, and nothing that takes longer; see :func:`label_masks`."""
    masks = label_masks(prediction, truth, labels)
    return {name: Counts.of(found, true).dice for name, (found, true) in masks.items()}
