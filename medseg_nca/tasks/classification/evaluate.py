"""Evaluate a classifying model, and write the results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medseg_nca.config import Settings
from medseg_nca.config.loading import validate, with_overrides
from medseg_nca.config.training import EvaluationSettings
from medseg_nca.datasets.classes.base import ClassData, ClassImage
from medseg_nca.datasets.sides import ChosenSide
from medseg_nca.errors import DataError, ImageError
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.job import Job
from medseg_nca.metrics.classification import log_losses, summarise
from medseg_nca.tasks.base import EvaluateRequest, Evaluation
from medseg_nca.tasks.classification.choose import choose, open_for
from medseg_nca.tasks.classification.classify import Classifier, batch_size
from medseg_nca.tasks.classification.report import draw_figures, write_class_report
from medseg_nca.tasks.classification.survey import read_checked
from medseg_nca.tracking.results import describe_results, write_results

PHASE = "evaluating"
Tree = dict[str, Any]


class SeedSettings(Settings):
    """The section ``prediction``: ``seed`` is the seed of the fire mask."""

    seed: int = Field(0, ge=0, lt=2**63)


class FormatSettings(Settings):
    """The section ``data``: ``format`` is the layout of the data set; "auto" finds it out."""

    format: str = "auto"


class VotesSettings(Settings):
    """The section ``options``: ``votes`` also draws the cells' votes, as a GIF for each image."""

    votes: bool = False


class UseSettings(Settings):
    """The settings that ``--set`` can change when a model is evaluated or predicts."""

    data: FormatSettings = FormatSettings()
    prediction: SeedSettings = SeedSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    options: VotesSettings = VotesSettings()


def use_settings(overrides: Sequence[str], options: Mapping[str, Any] | None = None) -> UseSettings:
    """Read overrides like ``evaluation.bootstrap=500``.

    Args:
        overrides: changes, each as ``--set`` takes it.
        options: options of a request; ``seed`` is the only one.

    Raises:
        ConfigError: for an unknown key, or a value that does not fit; the message names the key.
    """
    given = dict(options or {})
    tree: Tree = {"prediction": {"seed": given["seed"]} if "seed" in given else {}}
    return validate(UseSettings, with_overrides(tree, overrides), source="settings")


@dataclass
class Answers:
    """The answers of a model to the images that can be used, and why others cannot be used.

    Attributes:
        images: the images that can be used.
        chances: the probabilities of the classes, for each of these images.
        failed: what is wrong with each other image, by its id.
        unlike: in what an image differs from those of the training, by its id.
    """

    images: list[ClassImage] = field(default_factory=list)
    chances: list[NDArray[np.float64]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unlike: dict[str, str] = field(default_factory=dict)

    @property
    def doubts(self) -> list[str]:
        """One sentence about all images that are unlike those of the training; none without any."""
        if not self.unlike:
            return []
        name, text = next(iter(self.unlike.items()))
        verb = "is" if len(self.unlike) == 1 else "are"
        return [
            f"{len(self.unlike)} of {len(self.images)} images {verb} unlike the images that the "
            f"model learned from. Of {name}: {text}. Look at the results with care."
        ]


def answer_all(
    classifier: Classifier, images: Sequence[ClassImage], seed: int, job: Job, phase: str
) -> Answers:
    """Answer images in batches; an image that cannot be read or used does not stop the others.

    Raises:
        Interrupted: if the job was cancelled.
    """
    answers = Answers()
    size = min(batch_size(classifier.module, classifier.facts.size), 256)
    for first in range(0, len(images), size):
        ready = []
        for place, image in enumerate(images[first : first + size], first):
            job.report(phase, place, len(images), unit="images")
            try:
                prepared = classifier.prepare(read_checked(image), image.id)
                ready.append(prepared)
                answers.images.append(image)
                if text := classifier.unlike(prepared):
                    answers.unlike[image.id] = text
            except ImageError as error:
                answers.failed[image.id] = str(error)
        if ready:
            answers.chances += list(classifier.probabilities(np.stack(ready), seed, job))
    job.report(phase, len(images), len(images), unit="images")
    return answers


def evaluate_model(model: TaskModel, request: EvaluateRequest, job: Job) -> Evaluation:
    """Evaluate a model on one side of a data set, and write ``request.out``.

    Raises:
        DataError: if there is no image, or no image can be read.
        ConfigError: for an unknown setting.
        Interrupted: if the job was cancelled; nothing is then written.
    """
    settings = use_settings(request.overrides)
    data = open_for(model, request.data, settings.data.format)
    chosen = choose(model, data, request.split)
    started = time.monotonic()
    classifier = Classifier.of(model)
    answers = answer_all(classifier, chosen.items, settings.prediction.seed, job, PHASE)
    if not answers.images:
        first = next(iter(answers.failed.values()))
        raise DataError(f"None of the {len(chosen.items)} images can be used. {first}")
    tree, rows = _results(model, data, chosen, answers, settings.evaluation)
    tree["seconds"] = {"total": round(time.monotonic() - started, 3)}
    tree["settings"] |= settings.model_dump(mode="json", exclude={"data", "options"})
    job.check()
    seed = settings.prediction.seed
    figures = draw_figures(model, tree, answers.images, request.out / "figures", seed)
    write_class_report(tree, figures, model, request.out / "report.html")
    write_results(tree, rows, request.out)
    return Evaluation(request.out, tree, answers.failed)


def _results(
    model: TaskModel,
    data: ClassData,
    chosen: ChosenSide[ClassImage],
    answers: Answers,
    settings: EvaluationSettings,
) -> tuple[Tree, list[Tree]]:
    """Return the tree of ``metrics.json`` and the rows of ``metrics.csv``."""
    classes = Classifier.of(model).facts.classes
    number = {name: place for place, name in enumerate(classes)}
    truth = np.array([number[str(image.truth)] for image in answers.images], np.int64)
    chances = np.stack(answers.chances)
    summary = summarise(truth, chances, classes, settings)
    cases = [
        _case(image, row, k, loss, classes)
        for image, row, k, loss in zip(
            answers.images, chances, truth, log_losses(truth, chances), strict=True
        )
    ]
    tree = describe_results(
        model,
        data=data.name,
        data_hash=data.hash,
        split=chosen.side,
        cases=len(cases),
        score="balanced accuracy",
        value=summary["balanced_accuracy"],
        better="higher",
    )
    tree["split"]["reason"] = chosen.reason
    absent = [name for name, row in summary["classes"].items() if not row["n"]]
    notes = [*data.notes, *chosen.notes, *answers.doubts]
    if absent:
        notes.append(
            f"No image of {', '.join(absent)} was evaluated; means are over the other classes."
        )
    tree |= summary
    tree |= {
        "cases": cases,
        "notes": notes,
        "failed": [{"id": name, "error": text} for name, text in answers.failed.items()],
    }
    rows = [
        {
            "case": case["id"],
            **{name: case[name] for name in ("truth", "predicted", "correct", "probability")},
            **{f"p_{name}": value for name, value in case["probabilities"].items()},
        }
        for case in cases
    ]
    return tree, rows


def _case(
    image: ClassImage, chances: NDArray[np.float64], truth: int, loss: float, classes: Sequence[str]
) -> Tree:
    found = int(chances.argmax())
    hot = np.eye(len(classes))[truth]
    return {
        "id": image.id,
        "truth": classes[truth],
        "predicted": classes[found],
        "correct": int(found == truth),
        "probability": round(float(chances[found]), 6),
        "probability_of_truth": round(float(chances[truth]), 6),
        "log_loss": round(float(loss), 6),
        "brier": round(float(((chances - hot) ** 2).sum()), 6),
        "probabilities": {
            name: round(float(value), 6) for name, value in zip(classes, chances, strict=True)
        },
    }
