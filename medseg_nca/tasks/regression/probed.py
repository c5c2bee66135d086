"""A regression model and its pairs, as the probes of its dynamics see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
from torch import Tensor

from medseg_nca.datasets.pairs import open_pairs
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
from medseg_nca.inference.states import StateImage, cut_volume, part_for_states
from medseg_nca.inference.step_factor import asked
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.metrics.regression import constant_metrics, real_metrics
from medseg_nca.models import SegmentationModel
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.nca.start import RollOutStart
from medseg_nca.tasks.base import EvaluateRequest
from medseg_nca.tasks.regression.evaluate import choose_pairs, data_for, evaluation_settings
from medseg_nca.tasks.regression.options import RegressionFacts
from medseg_nca.tasks.regression.pairs import read_pair
from medseg_nca.tasks.regression.predictor import RealPredictor
from medseg_nca.tasks.regression.values import restored_values
from medseg_nca.transforms.prepare import restore

MEAN = "mean"


class RegressionSubject(Subject):
    """A regression model; an answer holds values ``(K, *S)`` on the grid of the image.

    Args:
        model: the model.
        facts: facts of the model.
        request: which pairs are probed.
        job: of making the built-in data set, where there is no other.

    Raises:
        DataError: if there is no pair.
        ConfigError: if a setting does not fit.
    """

    score: ClassVar[Measure] = Measure("skill")
    agreement: ClassVar[Measure] = Measure("R2")

    def __init__(self, model: TaskModel, facts: RegressionFacts, request: SubjectRequest) -> None:
        assert isinstance(model.module, SegmentationModel)
        asked = EvaluateRequest(
            request.model, request.data, model.folder.parent, request.split, request.overrides
        )
        settings = evaluation_settings(asked, model, facts)
        source = open_pairs(data_for(asked, model, Job()))
        chosen = choose_pairs(request.split, model, facts, source)
        self._pairs = {pair.id: pair for pair in chosen.items[: request.cases]}
        self.cases = tuple(self._pairs)
        self.model, self.facts_of_model, self.module = model, facts, model.module
        self.settings = settings.prediction.changed(uncertainty=0)
        self.steps = self.module.steps
        missing: dict[Need, str] = {}
        if not self.steps:
            reason = f"{model.spec.model.name} is no automaton: it takes no steps."
            missing |= {"steps": reason, "states": reason, "masks": reason}
        elif not self.module.stochastic:
            missing["masks"] = "every cell updates in every step, so that there is no fire mask."
        self.missing: Mapping[Need, str] = missing
        self.facts = {
            "data": {"name": source.name, "hash": source.hash},
            "split": {"name": chosen.side, "reason": chosen.reason},
            "prediction": self.settings.model_dump(mode="json"),
            "notes": list(chosen.notes),
        }

    def open(self, case: str) -> RegressionCase:
        """Implement :meth:`Subject.open`."""
        read = read_pair(self._pairs[case], self.facts_of_model.unknown)
        return RegressionCase(self, case, read.image, read.target)


class RegressionCase(ProbedCase):
    """An image with its target; the score is the skill, their mean first if there are several."""

    smooth = True

    def __init__(
        self,
        subject: RegressionSubject,
        name: str,
        image: Volume,
        target: Array,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.subject, self.id, self.image, self.target = subject, name, image, target
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
        predictor = RealPredictor(self.subject.model, self.subject.facts_of_model, settings)
        found: Array = predictor.predict(image or self.image, job).values.array
        return found

    def score(self, answer: Array, window: tuple[slice, ...] | None = None) -> Scores:
        """Implement :meth:`ProbedCase.score`."""
        target = self.target if window is None else self.target[(slice(None), *window)]
        values: Scores = {}
        known = self.subject.facts_of_model.targets
        for fact, found, true in zip(known, answer, target, strict=True):
            own, other = real_metrics(found, true), constant_metrics(fact.average, true)
            rmse, constant = own["rmse"], other["rmse"]
            values[fact.name] = 1 - rmse / constant if rmse is not None and constant else None
        return values if len(values) == 1 else {MEAN: mean_of(list(values.values())), **values}

    def agreement(self, answer: Array, other: Array) -> Scores:
        """Implement :meth:`ProbedCase.agreement`: R2, 1 where both are the same."""
        values: Scores = {}
        for fact, found, true in zip(
            self.subject.facts_of_model.targets, answer, other, strict=True
        ):
            same = bool(np.array_equal(found, true))
            values[fact.name] = 1.0 if same else real_metrics(found, true)["r2"]
        return values if len(values) == 1 else {MEAN: mean_of(list(values.values())), **values}

    def for_states(self) -> ProbedCase:
        """Implement :meth:`ProbedCase.for_states`."""
        assert self.image is not None
        window, note = part_for_states(self.states, self.id, self.image.shape)
        if window is None:
            return self
        part = cut_volume(self.image, window)
        target = self.target[(slice(None), *window)]
        return RegressionCase(self.subject, self.id, part, target, (note,))

    @cached_property
    def states(self) -> StateImage:
        """The prepared image, whose states are looked at."""
        subject = self.subject
        assert self.image is not None
        assert isinstance(subject.module, MultiLevelNca)
        return StateImage.of(
            subject.module, self.image, subject.facts_of_model.plan, subject.settings,
            subject.model.device,
        )  # fmt: skip

    def start(self, level: int, seed: int | None = None) -> RollOutStart:
        """Implement :meth:`ProbedCase.start`."""
        return self.states.start(level, seed)

    def read(self, state: Tensor) -> Array:
        """Implement :meth:`ProbedCase.read`."""
        values = self.states.logits(state).float().cpu().numpy().copy()
        found: Array = restore(
            restored_values(values, self.subject.facts_of_model), self.states.trace
        )
        return found
