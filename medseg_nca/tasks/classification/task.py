"""Classification: which class an image is of, as the cells of an automaton agree on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from medseg_nca.inference.task_model import (
    TaskModel,
    TaskSpec,
    check_task_model,
    load_task_model,
)
from medseg_nca.job import Job
from medseg_nca.tasks.base import (
    Agreement,
    Better,
    EvaluateRequest,
    Evaluation,
    PredictRequest,
    Start,
    Table,
    Task,
    TrainedModel,
    Training,
)
from medseg_nca.tasks.classification.begin import SPLIT, begin_training
from medseg_nca.tasks.classification.build import build
from medseg_nca.tasks.classification.classify import TASK_NAME, Classifier
from medseg_nca.tasks.classification.evaluate import SCORE, case_values, evaluate_model
from medseg_nca.tasks.classification.options import ClassificationOptions
from medseg_nca.tasks.classification.predict import ClassPrediction, predict_images
from medseg_nca.tasks.classification.report import COLUMNS, WORDS, class_rows, with_interval
from medseg_nca.tracking.stored_answer import compare_answer, store_answer

Tree = dict[str, Any]
FORMULA = "class-waves-1"
_WAVES = 4
_NAMED = 20


class Classification(Task):
    """One class for each image, 2D or 3D."""

    name: ClassVar[str] = TASK_NAME
    score: ClassVar[str] = SCORE
    data_use: ClassVar[Literal["required", "optional", "none"]] = "optional"
    options_class = ClassificationOptions
    defaults: ClassVar[Mapping[str, Any]] = {
        "model.cell.channels": 24,
        "model.cell.update.hidden": 64,
        "training.iterations": 3000,
        "training.batch_size": 32,
        "training.optimiser": "muon",
        "training.lr": 1e-2,
        "training.warmup": 0.02,
        "training.validate_every": 0.1,
        "training.validate_cases": None,
        "training.checkpoint_every": 0.1,
        "training.workers": 0,
        "augment.flip_axes": (),
        "augment.rotate90": False,
    }
    predict_options: ClassVar[frozenset[str]] = frozenset({"votes"})

    def begin(self, start: Start, job: Job) -> Training:
        """See :meth:`Task.begin`."""
        settings = start.settings
        options: ClassificationOptions = self.options(settings)
        data = start.data
        if data is not None and str(data) == "digits" and not data.exists():
            options, data = options.changed(data="digits"), None
            settings = settings.changed(options=options.model_dump(mode="json"))
        settings, decisions = self.decided(settings)
        learner, split, settings = begin_training(start, settings, options, job)
        sides: tuple[Literal["test", "val", "train"], ...] = ("test", "val", "train")
        return Training(
            learner,
            settings,
            decisions,
            data=data,
            data_hash=learner.data[1],
            held_out=next(side for side in sides if split.side(side)),
            files=(start.out / SPLIT,),
        )

    def read(self, folder: Path) -> TaskSpec:
        """See :meth:`Task.read`."""
        return check_task_model(folder, self.name, build)

    def load(self, folder: Path, device: str = "auto") -> TaskModel:
        """See :meth:`Task.load`."""
        return load_task_model(folder, self.name, build, device)

    def predict(self, request: PredictRequest, job: Job) -> Sequence[ClassPrediction]:
        """See :meth:`Task.predict`; with the option ``votes`` also a GIF for each image."""
        self.check_options(request.options, self.predict_options)
        return predict_images(_own(request.model), request, job)

    def evaluate(self, request: EvaluateRequest, job: Job) -> Evaluation:
        """See :meth:`Task.evaluate`."""
        self.check_options(request.options, self.evaluate_options)
        return evaluate_model(_own(request.model), request, job)

    def table(self, tree: Tree) -> Table:
        """See :meth:`Task.table`: a row for each class."""
        title = f"{tree['model']['name']} on {tree['split']['name']} of {tree['data']['name']}"
        values = [f"{word} {with_interval(tree, name)}" for name, word in WORDS.items()]
        text = "; ".join(values)
        return Table(
            title,
            ("class", *COLUMNS),
            tuple(class_rows(tree)),
            f"{text[:1].upper()}{text[1:]}; {tree['split']['cases']} images.",
        )

    def published(self, tree: Tree) -> Mapping[str, float | None]:
        """See :meth:`Task.published`."""
        numbers = {name: tree[name] for name in WORDS}
        for name, row in tree["classes"].items():
            numbers |= {f"{key}_{name}": row[key] for key in ("sensitivity", "precision")}
        return numbers

    def comparable(self, tree: Tree) -> Mapping[str, Better]:
        """See :meth:`Task.comparable`."""
        return {
            "correct": "higher",
            "log_loss": "lower",
            "probability_of_truth": "higher",
            "brier": "lower",
        }

    def case_values(self, tree: Tree, metric: str) -> Mapping[str, Mapping[str, float | None]]:
        """See :meth:`Task.case_values`: a row for each class, and "all"."""
        return case_values(tree, metric)

    def make_reference(self, model: TrainedModel) -> dict[str, str]:
        """See :meth:`Task.make_reference`: the probabilities of four patterns of waves."""
        return store_answer(_answer_to_waves(_own(model)), FORMULA)

    def check_reference(self, model: TrainedModel) -> Agreement:
        """See :meth:`Task.check_reference`."""
        return compare_answer(_answer_to_waves(_own(model)), FORMULA, model)

    def tags(self, model: TrainedModel) -> Mapping[str, str]:
        """See :meth:`Task.tags`: classes, readout, steps and the size of an image."""
        classifier = Classifier.of(_own(model))
        facts = classifier.facts
        more = len(facts.classes) - _NAMED
        return {
            "classes": ", ".join(facts.classes[:_NAMED])
            + (f" and {more} more" if more > 0 else ""),
            "readout": classifier.options.readout,
            "steps": str(classifier.module.usual_steps),
            "image": " x ".join(map(str, (facts.channels, *facts.size))),
        }

    def answer(self, model: TrainedModel, value: Any) -> NDArray[np.float64]:
        """Answer an array of images ``(B, C, *S)`` with probabilities ``(B, K)``.

        The images are as they are read from files: ``(C, x, y)`` or ``(C, x, y, z)``, of any size.
        """
        return Classifier.of(_own(model)).answer(value)


def _own(model: TrainedModel) -> TaskModel:
    """A model that this task has loaded."""
    assert isinstance(model, TaskModel)
    return model


def _answer_to_waves(model: TaskModel) -> NDArray[np.float64]:
    """``(4, K)``: what a model says of waves of four lengths, without any random numbers."""
    classifier = Classifier.of(model)
    facts = classifier.facts
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in facts.size), indexing="ij")
    images = [
        [
            sum(np.cos((2 + 2 * wave + k) * axis + channel) for k, axis in enumerate(axes))
            for channel in range(facts.channels)
        ]
        for wave in range(_WAVES)
    ]
    return classifier.probabilities(np.array(images, np.float32))
