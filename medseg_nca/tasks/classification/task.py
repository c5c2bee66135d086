"""The task classification, as the commands use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from medseg_nca.config import RunSettings, Settings
from medseg_nca.job import Job
from medseg_nca.tasks.base import (
    Agreement,
    Better,
    EvaluateRequest,
    Evaluation,
    PredictRequest,
    ResultTable,
    StandardTask,
    Start,
    TrainedModel,
    Training,
    Tree,
)
from medseg_nca.tasks.classification.options import ClassificationOptions
from medseg_nca.tasks.classification.words import COLUMNS, WORDS, class_rows, with_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from medseg_nca.datasets.splits import Split
    from medseg_nca.dynamics.subject import Subject, SubjectRequest
    from medseg_nca.inference.task_model import TaskSpec
    from medseg_nca.stages.stage import StageInput, StageRequest
    from medseg_nca.tasks.classification.network import ClassifyingNca
    from medseg_nca.tasks.classification.predict import ClassPrediction

# The most classes that a tag of a registered version names, and the most classes that have numbers
# of their own in a tracking store.
_NAMED, _PUBLISHED = 20, 50


class Classification(StandardTask):
    """The task whose models find one class for each image, 2D or 3D."""

    name = "classification"
    score = "balanced accuracy"
    data_use = "optional"
    options_class: ClassVar[type[Settings]] = ClassificationOptions
    unused_training: ClassVar[frozenset[str]] = frozenset({"foreground", "loss", "validate_steps"})
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
    predict_options = frozenset({"seed"})

    def begin(self, start: Start, job: Job) -> Training:
        """Implement :meth:`Task.begin`; the split of the run is ``split.json``."""
        from medseg_nca.datasets.redraw import SPLIT
        from medseg_nca.tasks.classification.begin import begin_training

        settings, decisions = self.decided(start)
        options: ClassificationOptions = self.options(settings)
        data = start.data
        if data is not None and str(data) == "digits" and not data.exists():
            options, data = options.changed(data="digits"), None
            settings = settings.changed(options=options.model_dump(mode="json"))
        learner, split, settings = begin_training(start, settings, options, job)
        return Training(
            learner,
            settings,
            decisions,
            data=data,
            data_hash=learner.data[1],
            held_out=next(side for side in ("test", "val", "train") if split.side(side)),
            files=(start.out / SPLIT,),
        )

    def divide(self, data: Path | None, out: Path, settings: RunSettings, job: Job) -> Split:
        """Implement :meth:`Task.divide`."""
        from medseg_nca.datasets.class_split import split_classes
        from medseg_nca.tasks.classification.begin import open_data

        # The hash, which no one asks for yet, would read every image.
        found = replace(open_data(data, settings, self.options(settings)), digest=str)
        return split_classes(found, settings.data.split)

    def gather(
        self, data: Path | None, out: Path, settings: RunSettings, job: Job
    ) -> tuple[Path | None, str]:
        """Implement :meth:`Task.gather`; the images are read by each training."""
        from medseg_nca.datasets.class_split import only_listed
        from medseg_nca.tasks.classification.begin import open_data

        found = open_data(data, settings, self.options(settings))
        return data, only_listed(found, settings.data.split).hash

    def build(self, spec: TaskSpec) -> ClassifyingNca:
        """Implement :meth:`StandardTask.build`."""
        from medseg_nca.tasks.classification.build import build

        return build(spec)

    def predict(self, request: PredictRequest, job: Job) -> Sequence[ClassPrediction]:
        """Implement :meth:`Task.predict`; with ``options.votes=true`` also a GIF for each."""
        from medseg_nca.tasks.classification.predict import predict_images

        self.check_options(request.options, self.predict_options)
        return predict_images(self.own(request.model), request, job)

    def evaluate(self, request: EvaluateRequest, job: Job) -> Evaluation:
        """Implement :meth:`Task.evaluate`."""
        from medseg_nca.tasks.classification.evaluate import evaluate_model

        self.check_options(request.options, self.evaluate_options)
        return evaluate_model(self.own(request.model), request, job)

    def stages(self, request: StageRequest) -> Sequence[StageInput]:
        """Implement :meth:`Task.stages`."""
        from medseg_nca.tasks.classification.stage import stages

        return stages(self.own(request.model), request)

    def subject(self, request: SubjectRequest) -> Subject:
        """Implement :meth:`Task.subject`."""
        from medseg_nca.tasks.classification.probed import ClassSubject

        return ClassSubject(self.own(request.model), request)

    def table(self, tree: Tree) -> ResultTable:
        """Implement :meth:`Task.table`: a row for each class."""
        title = f"{tree['model']['name']} on {tree['split']['name']} of {tree['data']['name']}"
        text = "; ".join(f"{word} {with_interval(tree, name)}" for name, word in WORDS.items())
        summary = f"{text[:1].upper()}{text[1:]}; {tree['split']['cases']} images."
        return ResultTable(title, ("class", *COLUMNS), tuple(class_rows(tree)), summary)

    def published(self, tree: Tree) -> Mapping[str, float | None]:
        """Implement :meth:`Task.published`."""
        numbers = {name: tree[name] for name in WORDS}
        few = tree["classes"] if len(tree["classes"]) <= _PUBLISHED else {}
        for name, row in few.items():
            numbers |= {f"{key}_{name}": row[key] for key in ("sensitivity", "precision")}
        return numbers

    def comparable(self, tree: Tree) -> Mapping[str, Better]:
        """Implement :meth:`Task.comparable`."""
        return {
            "correct": "higher",
            "log_loss": "lower",
            "probability_of_truth": "higher",
            "brier": "lower",
        }

    def case_values(self, tree: Tree, metric: str) -> Mapping[str, Mapping[str, float | None]]:
        """Implement :meth:`Task.case_values`: a row for each class, and "all"."""
        cases = tree["cases"]
        rows = {
            name: {case["id"]: case[metric] if case["truth"] == name else None for case in cases}
            for name, row in tree["classes"].items()
            if row["n"]
        }
        return {**rows, "all": {case["id"]: case[metric] for case in cases}}

    def make_reference(self, model: TrainedModel) -> dict[str, str]:
        """Implement :meth:`Task.make_reference`: the probabilities of four patterns of waves."""
        from medseg_nca.tasks.classification.reference import make_reference

        return make_reference(self.own(model))

    def check_reference(self, model: TrainedModel) -> Agreement:
        """Implement :meth:`Task.check_reference`."""
        from medseg_nca.tasks.classification.reference import check_reference

        return check_reference(self.own(model))

    def tags(self, model: TrainedModel) -> Mapping[str, str]:
        """Implement :meth:`Task.tags`: classes, readout, steps and the size of an image."""
        from medseg_nca.tasks.classification.classify import Classifier

        classifier = Classifier.of(self.own(model))
        facts = classifier.facts
        more = len(facts.classes) - _NAMED
        rest = f" and {more} more" if more > 0 else ""
        return {
            "classes": ", ".join(facts.classes[:_NAMED]) + rest,
            "readout": classifier.options.readout,
            "steps": str(classifier.module.usual_steps),
            "image": " x ".join(map(str, (facts.channels, *facts.size))),
        }

    def answer(self, model: TrainedModel, value: Any) -> NDArray[np.float64]:
        """Answer an array of images ``(B, C, *S)`` with probabilities ``(B, K)``.

        The images are as they are read from files: ``(C, x, y)`` or ``(C, x, y, z)``, of any size.
        """
        from medseg_nca.tasks.classification.classify import Classifier

        return Classifier.of(self.own(model)).answer(value)
