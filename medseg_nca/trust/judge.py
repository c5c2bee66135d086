"""From the features of an answer to its estimate: predicted Dice, interval, verdict, reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite, nan

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.trust import GateSettings, LabelScale, TrustSection
from medseg_nca.trust.calibration import ENOUGH_CASES, Calibration
from medseg_nca.trust.estimate import Estimate, LabelEstimate, Verdict, unknown, worst
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
_STRANGE = "The feature {!r} of the estimate is not known here, so that nothing can be said."
_BLIND = (
    "The fit saw too few bad masks to keep the miss rate that the gate asks for "
    "(prediction.gate.miss_rate)."
)
_NEW = (
    "The image or its answer is unlike every clean image that the estimate was fitted on "
    "(distance {distance:.1f}, usual up to {usual:.1f})."
)


def row_of(features: Features, names: Sequence[str], scale: LabelScale) -> Row:
    """Return the features of a label as the trees see them: as they are, then scaled.

    Scaled features are distances from clean images, in units of their spread there. With few cases
    the spread is hardly known, and features as they are tell more; with many, scaled ones do.

    Args:
        features: of one label.
        names: the order.
        scale: mean and spread of each.
    """
    mean, sd = np.array(scale.mean), np.array(scale.sd)
    values = np.array([features[name] for name in names])
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
        strange = self._strange(features)
        if strange is not None:
            return unknown(strange)
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
        far = max((distance(row) for name, row in rows.items() if not empty[name]), default=0.0)
        of_all = [
            *(_UNFITTED.format(name) for name in empty if name not in labels), *doubts,
            *([_NEW.format(distance=far, usual=section.novelty)] if far > section.novelty else ()),
            *([_BLIND] if self._thresholds.blind else ()),
        ]  # fmt: skip
        if of_all:
            labels = {name: _doubted(label) for name, label in labels.items()}
        verdict = worst([label.verdict for label in labels.values()]) if labels else "review"
        reasons = [*self._reasons(labels), *of_all]
        few = section.cases < ENOUGH_CASES
        if few:
            reasons.append(_FEW.format(cases=section.cases, enough=ENOUGH_CASES))
        return Estimate(verdict, tuple(reasons), labels, section.confidence, few)

    def _strange(self, features: Mapping[str, Features]) -> str | None:
        """Return why the features cannot be judged; None if they can."""
        for label in self._scales:
            found = features.get(label, {})
            for name in self.section.features:
                if not isfinite(found.get(name, nan)):
                    return _STRANGE.format(name)
        return None

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
            elif label.dice < self._thresholds.accept:
                found.append(
                    f"{name}: the predicted Dice is {label.dice:.2f} ({label.low:.2f} to "
                    f"{label.high:.2f}); it is accepted from {self._thresholds.accept:.2f}."
                )
        return found


def _doubted(label: LabelEstimate) -> LabelEstimate:
    """Return a label that is not accepted, because something speaks against all of the answer."""
    return replace(label, verdict="review") if label.verdict == "accept" else label
