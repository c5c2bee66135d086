"""A segmentation model and its cases, as the probes of its dynamics see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from medseg_nca.cases.evaluate_case import read_case
from medseg_nca.cases.evaluation_inputs import LabelMatch, match_labels, open_source, select_cases
from medseg_nca.config.training import PredictionSettings
from medseg_nca.dynamics.subject import (
    Array,
    Measure,
    Need,
    ProbedCase,
    Scores,
    Subject,
    SubjectRequest,
    mean_of,
)
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.metrics.overlap import Counts, label_masks
from medseg_nca.tasks.segmentation.evaluation import resolve_settings

MEAN = "mean"


class SegmentationSubject(Subject):
    """A segmentation model; an answer is a label map ``(1, *S)`` on the grid of the image.

    Args:
        model: the model.
        request: which cases are probed.

    Raises:
        DataError: if there is no labelled case, or its labels do not fit the model's.
        ConfigError: if a setting does not fit.
    """

    score: ClassVar[Measure] = Measure("Dice")
    agreement: ClassVar[Measure] = Measure("Dice")

    def __init__(self, model: LoadedModel, request: SubjectRequest) -> None:
        settings = resolve_settings(model, request.overrides)
        assert request.data is not None
        source = open_source(request.data, settings.data.format, settings.data.labels)
        self.match: LabelMatch = match_labels(model.spec.labels, source.labels)
        chosen = select_cases(source, model, request.split)
        self._cases = {case.id: case for case in chosen.items[: request.cases]}
        self.cases = tuple(self._cases)
        self.model = model
        self.settings: PredictionSettings = settings.prediction.changed(
            uncertainty=0, probabilities=False
        )
        self.steps = model.model.steps
        self.missing: Mapping[Need, str] = _missing(model)
        self.facts = {
            "data": {"name": source.name, "hash": source.hash},
            "split": {"name": chosen.side, "reason": chosen.reason},
            "prediction": self.settings.model_dump(mode="json"),
            "notes": [*chosen.notes, *self.match.notes],
        }

    def open(self, case: str) -> SegmentationCase:
        """Implement :meth:`Subject.open`."""
        image, truth = read_case(self._cases[case], self.match)
        return SegmentationCase(self, case, image, truth.array[0])


class SegmentationCase(ProbedCase):
    """A labelled image; scores are the Dice of each label, their mean first."""

    def __init__(
        self, subject: SegmentationSubject, name: str, image: Volume, truth: Array
    ) -> None:
        self.subject, self.id, self.image, self.truth = subject, name, image, truth

    def answer(
        self,
        *,
        image: Volume | None = None,
        factor: float | Sequence[float] = 1.0,
        seed: int | None = None,
        job: Job | None = None,
    ) -> Array:
        """Implement :meth:`ProbedCase.answer`, by the predictor that ``evaluate`` uses."""
        assert self.image is not None
        times = factor if isinstance(factor, int | float) else tuple(factor)
        settings = self.subject.settings.changed(step_factor=times)
        if seed is not None:
            settings = settings.changed(seed=seed, fire="sample")
        predictor = Predictor(self.subject.model, settings)
        found: Array = predictor.predict(image or self.image, job).label_map.array
        return found

    def score(self, answer: Array, window: tuple[slice, ...] | None = None) -> Scores:
        """Implement :meth:`ProbedCase.score`."""
        truth = self.truth if window is None else self.truth[window]
        labels, match = self.subject.model.spec.labels, self.subject.match
        masks = label_masks(answer[0], truth, labels, match.truth)
        return with_mean({n: Counts.of(found, true).dice for n, (found, true) in masks.items()})

    def agreement(self, answer: Array, other: Array) -> Scores:
        """Implement :meth:`ProbedCase.agreement`; where both are empty, they agree."""
        labels = self.subject.model.spec.labels
        values: Scores = {}
        for label in labels.labels:
            numbers = sorted(labels.predicted_values(label))
            dice = Counts.of(np.isin(answer, numbers), np.isin(other, numbers)).dice
            values[label.name] = 1.0 if dice is None else dice
        return with_mean(values)


def with_mean(values: Scores) -> Scores:
    """Put the mean over the labels in front, unless there is one label only."""
    return values if len(values) == 1 else {MEAN: mean_of(list(values.values())), **values}


def _missing(model: LoadedModel) -> dict[Need, str]:
    missing: dict[Need, str] = {}
    if not model.model.steps:
        reason = f"{model.spec.model.name} is no automaton: it takes no steps and has no states."
        missing |= {"steps": reason, "states": reason, "masks": reason}
    elif len(model.members) > 1:
        missing["states"] = "an ensemble has several automata; probe one of its members."
    if model.model.steps and not model.model.stochastic:
        missing["masks"] = "every cell updates in every step, so that there is no fire mask."
    return missing
