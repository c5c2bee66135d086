"""A segmentation model and its cases, as the probes of its dynamics see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
from torch import Tensor

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
from medseg_nca.inference.states import StateImage, cut_volume, part_for_states
from medseg_nca.inference.step_factor import asked
from medseg_nca.inference.votes import MeanVotes
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.metrics.overlap import Counts, label_masks
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.nca.start import RollOutStart
from medseg_nca.tasks.segmentation.evaluation import resolve_settings
from medseg_nca.transforms.islands import remove_islands

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
        self,
        subject: SegmentationSubject,
        name: str,
        image: Volume,
        truth: Array,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.subject, self.id, self.image, self.truth = subject, name, image, truth
        self.notes = notes

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
        settings = asked(self.subject.settings, factor, seed)
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

    def for_states(self) -> ProbedCase:
        """Implement :meth:`ProbedCase.for_states`."""
        assert self.image is not None
        window, note = part_for_states(self.states, self.id, self.image.shape)
        if window is None:
            return self
        part = cut_volume(self.image, window)
        return SegmentationCase(self.subject, self.id, part, self.truth[window], (note,))

    @cached_property
    def states(self) -> StateImage:
        """The prepared image, whose states are looked at."""
        model = self.subject.model
        assert self.image is not None
        assert isinstance(model.model, MultiLevelNca)
        return StateImage.of(
            model.model, self.image, model.spec.plan, self.subject.settings, model.device
        )

    def start(self, level: int, seed: int | None = None) -> RollOutStart:
        """Implement :meth:`ProbedCase.start`."""
        return self.states.start(level, seed)

    def read(self, state: Tensor) -> Array:
        """Implement :meth:`ProbedCase.read`, as the predictor makes a label map."""
        labels, trace = self.subject.model.spec.labels, self.states.trace
        logits = self.states.logits(state)
        chances = logits.sigmoid() if labels.multi_label else logits.softmax(0)
        votes = MeanVotes(trace.prepared.shape, labels)
        votes.add(tuple(slice(0, n) for n in chances.shape[1:]), chances)
        votes.end_pass()
        found: Array = votes.label_map(trace)
        remove_islands(found[0], self.subject.settings.kept_labels, labels)
        return found

    def object_cells(self, state: Tensor) -> Tensor | None:
        """Implement :meth:`ProbedCase.object_cells`."""
        logits = self.states.model.level_logits(len(self.subject.steps) - 1, state)[0]
        if self.subject.model.spec.labels.multi_label:
            return (logits > 0).any(0)
        return logits.argmax(0) > 0


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
