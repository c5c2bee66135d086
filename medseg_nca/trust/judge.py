"""From the features of an answer to its estimate: predicted Dice, interval, verdict, reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.trust import GateSettings, LabelScale, TrustSection
from medseg_nca.trust.calibration import ENOUGH_CASES, Calibration
from medseg_nca.trust.estimate import Estimate, LabelEstimate, Verdict, worst
from medseg_nca.trust.features import Features
from medseg_nca.trust.forest import predict_forest

Row = NDArray[np.float64]

# Spreads from clean images beyond which a feature says no more, to trees and in a distance.
_FAR, _ALONE = 20.0, 10.0
_FEW = (
    "The estimate was fitted on {cases} cases, fewer than {enough}: its interval is wide, and the "
    "true Dice may lie outside."
)
_UNFITTED = "{}: the estimate was fitted on no answer that has it, so its mask is not estimated."
_NEW = (
    "The image or its answer is unlike every clean image that the estimate was fitted on "
    "(distance {distance:.1f}, usual up to {usual:.1f})."
)


def row_of(features: Features, names: Sequence[str], scale: LabelScale) -> Row:
    """Return the features of a label as the trees see them: as they are, then scaled.

    Scaled features are distances from clean images, in units of their spread there. With few cases
    the spread is hardly known, and features as they are tell more; with many, scaled ones do.

    Args:
        features: of one label; a name that is missing counts as usual.
        names: the order.
        scale: mean and spread of each.
    """
    mean, sd = np.array(scale.mean), np.array(scale.sd)
    values = np.nan_to_num([features.get(name, mean[k]) for k, name in enumerate(names)])
    found: Row = np.concatenate([values, np.clip((values - mean) / sd, -_FAR, _FAR)])
    return found


def distance(row: Row) -> float:
    """Return how far features (:func:`row_of`) lie from clean images: root mean square, scaled.

    A single one counts as 10 at most, so that it cannot decide alone.
    """
    scaled = np.clip(row[len(row) // 2 :], -_ALONE, _ALONE)
    return float(np.sqrt(np.mean(scaled**2)))


class Judge:
    """Estimates answers with what a model carries.

    Args:
        section: the model's section.
        gate: what the verdict stands on.
    """

    def __init__(self, section: TrustSection, gate: GateSettings) -> None:
        self.section = section
        self.gate = gate
        self._calibration = Calibration(section)
        self._thresholds = self._calibration.thresholds(gate)
        self._scales = {scale.label: scale for scale in section.scales}

    def estimate(
        self, features: Mapping[str, Features], empty: Mapping[str, bool],
        doubts: Sequence[str] = (),
    ) -> Estimate:  # fmt: skip
        """Return the estimate of an answer.

        Args:
            features: of each label (:func:`medseg_nca.trust.features.measure`).
            empty: for each label whether its mask has no voxel.
            doubts: what else speaks against the answer, as sentences; with any of them it is
                not accepted.
        """
        section = self.section
        rows = {
            name: row_of(features[name], section.features, scale)
            for name, scale in self._scales.items()
        }
        predicted = predict_forest(section.trees, np.stack(list(rows.values())))
        values = dict(zip(rows, predicted.tolist(), strict=True))
        labels = {
            name: self._label(values.get(name, 0.0), nothing)
            for name, nothing in empty.items()
            if nothing or name in values
        }
        unfitted = [name for name in empty if name not in labels]
        reasons = [*self._reasons(labels), *map(_UNFITTED.format, unfitted), *doubts]
        far = max((distance(row) for name, row in rows.items() if not empty[name]), default=0.0)
        if far > section.novelty:
            reasons.append(_NEW.format(distance=far, usual=section.novelty))
        verdict = worst([label.verdict for label in labels.values()])
        if verdict in ("accept", "unknown") and reasons:
            verdict = "review"
        few = section.cases < ENOUGH_CASES
        if few:
            reasons.append(_FEW.format(cases=section.cases, enough=ENOUGH_CASES))
        return Estimate(verdict, tuple(reasons), labels, section.confidence, few)

    def _label(self, predicted: float, empty: bool) -> LabelEstimate:
        if empty:
            # A mask without a voxel has the Dice 0 if the label is there, and none if it is not.
            return LabelEstimate(0.0, 0.0, 1.0, "review", True)
        interval, limits = self._calibration.interval(predicted), self._thresholds
        verdict: Verdict = "accept" if predicted >= limits.accept else "review"
        if predicted < limits.reject:
            verdict = "reject"
        return LabelEstimate(predicted, interval.low, interval.high, verdict)

    def _reasons(self, labels: Mapping[str, LabelEstimate]) -> list[str]:
        found = []
        for name, label in labels.items():
            if label.empty:
                found.append(f"{name}: the answer has no voxel of it.")
            elif label.verdict != "accept":
                found.append(
                    f"{name}: the predicted Dice is {label.dice:.2f} ({label.low:.2f} to "
                    f"{label.high:.2f}); it is accepted from {self._thresholds.accept:.2f}."
                )
        return found
