"""A classifying automaton and a set of images, as the probes of its dynamics see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from medseg_nca.dynamics.subject import (
    Array,
    Measure,
    Need,
    ProbedCase,
    Scores,
    Subject,
    SubjectRequest,
)
from medseg_nca.inference.step_factor import times_steps
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.metrics.classification import balanced_accuracy
from medseg_nca.nca.fire import mix
from medseg_nca.nca.start import RollOutStart
from medseg_nca.tasks.classification.choose import choose, open_for
from medseg_nca.tasks.classification.classify import Classifier
from medseg_nca.tasks.classification.evaluate import use_settings
from medseg_nca.tasks.classification.survey import read_checked

IMAGES = "images"


class ClassSubject(Subject):
    """A classifying automaton; its one case is all images together, of which the score is told.

    An answer holds the probabilities ``(n, K)``.

    Args:
        model: the model.
        request: which images are probed.

    Raises:
        DataError: if there is no image, or one cannot be used.
        ConfigError: if a setting does not fit.
    """

    score: ClassVar[Measure] = Measure("balanced accuracy")
    agreement: ClassVar[Measure] = Measure("share of images with the same class")

    def __init__(self, model: TaskModel, request: SubjectRequest) -> None:
        settings = use_settings(request.overrides)
        data = open_for(model, request.data, settings.data.format)
        chosen = choose(model, data, request.split)
        self.images = chosen.items[: request.cases]
        self.classifier = Classifier.of(model)
        self.seed = settings.prediction.seed
        self.cases = (IMAGES,)
        self.steps = (self.classifier.module.usual_steps,)
        missing: dict[Need, str] = {
            "images": "a class has no place in the image, so that no answer is brought back."
        }
        if self.classifier.module.settings.cell.fire_rate >= 1:
            missing["masks"] = "every cell updates in every step, so that there is no fire mask."
        self.missing: Mapping[Need, str] = missing
        self.facts = {
            "data": {"name": data.name, "hash": data.hash},
            "split": {"name": chosen.side, "reason": chosen.reason},
            "images": [image.id for image in self.images],
            "seed": self.seed,
            "notes": [*data.notes, *chosen.notes],
        }

    def open(self, case: str) -> ClassCase:
        """Implement :meth:`Subject.open`."""
        prepared = [self.classifier.prepare(read_checked(i), i.id) for i in self.images]
        number = {name: k for k, name in enumerate(self.classifier.facts.classes)}
        truth = np.array([number[str(image.truth)] for image in self.images], np.int64)
        return ClassCase(self, np.stack(prepared), truth)


class ClassCase(ProbedCase):
    """Prepared images ``(n, C, *S)`` with their classes."""

    smooth = True

    def __init__(self, subject: ClassSubject, images: Array, truth: Array) -> None:
        self.subject, self.id, self.truth = subject, IMAGES, truth
        self.batch = torch.from_numpy(images).to(subject.classifier.device)

    @torch.inference_mode()
    def answer(
        self,
        *,
        image: Volume | None = None,
        factor: float | Sequence[float] = 1.0,
        seed: int | None = None,
        job: Job | None = None,
    ) -> Array:
        """Implement :meth:`ProbedCase.answer`; ``image`` is not used."""
        start = self.start(0, seed)
        with (job or Job()).at_work():
            return self.read(start.go(times_steps(self.subject.steps, factor)[0]))

    def score(self, answer: Array, window: tuple[slice, ...] | None = None) -> Scores:
        """Implement :meth:`ProbedCase.score`."""
        found = answer.argmax(1)
        return {
            "balanced accuracy": balanced_accuracy(self.truth, found, answer.shape[1]),
            "accuracy": float((found == self.truth).mean()),
        }

    def agreement(self, answer: Array, other: Array) -> Scores:
        """Implement :meth:`ProbedCase.agreement`."""
        same = float((answer.argmax(1) == other.argmax(1)).mean())
        return {"same class": same}

    @torch.inference_mode()
    def start(self, level: int, seed: int | None = None) -> RollOutStart:
        """Implement :meth:`ProbedCase.start`."""
        module = self.subject.classifier.module
        state = module.start(self.batch)
        key = mix(self.subject.seed if seed is None else seed)
        start = RollOutStart(
            module.engine, module.cell, state, module.fire(state, (key,) * len(state)),
            self.subject.steps[0],
        )  # fmt: skip
        return start if seed is None else start.masked("sample")

    @torch.inference_mode()
    def read(self, state: Tensor) -> Array:
        """Implement :meth:`ProbedCase.read`."""
        classifier = self.subject.classifier
        answer = classifier.module.read(state)
        found: Array = answer.probabilities(classifier.facts.temperature).cpu().numpy()
        return found
