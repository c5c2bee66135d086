"""Predict the class of images, and write the predictions."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from medseg_nca.datasets.class_pictures import (
    is_image,
    is_series,
    npz_pictures,
    read_picture,
    visible,
)
from medseg_nca.datasets.classes.base import ClassImage
from medseg_nca.datasets.layout import safe_id
from medseg_nca.errors import ConfigError, DataError, PartialFailure
from medseg_nca.inference.engine_choice import engine_settings
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.io.atomic import atomic_file, write_json
from medseg_nca.io.npz import read_npz
from medseg_nca.job import Job
from medseg_nca.tasks.base import PredictRequest
from medseg_nca.tasks.classification.classify import Classifier
from medseg_nca.tasks.classification.evaluate import answer_all, use_settings
from medseg_nca.tasks.classification.pictures import draw_votes
from medseg_nca.tracking.provenance import package_versions

logger = logging.getLogger(__name__)

PHASE = "predicting"
JSON, CSV = "predictions.json", "predictions.csv"
Tree = dict[str, Any]


@dataclass(frozen=True)
class ClassPrediction:
    """The prediction for one image.

    Attributes:
        id: path of the image. For an image of a ``.npz`` file, the name of the array and the place
            of the image in it follow.
        label: the most probable class.
        probabilities: the probability of each class.
        unlike: in what the image differs from those of the training; None if in nothing.
        picture: the picture of the votes; None if it was not asked for.
    """

    id: str
    label: str
    probabilities: dict[str, float]
    unlike: str | None = None
    picture: Path | None = None

    @property
    def line(self) -> str:
        """The image, its class and the probability, for the terminal."""
        tail = f" ({self.picture})" if self.picture else ""
        return f"{self.id}: {self.label} ({self.probabilities[self.label]:.3f}){tail}"

    def to_dict(self) -> Tree:
        """Return the plain values that ``predictions.json`` holds and ``--json`` prints."""
        tree = {
            "id": self.id,
            "class": self.label,
            "probability": self.probabilities[self.label],
            "probabilities": self.probabilities,
            "unlike": self.unlike,
        }
        return tree if self.picture is None else {**tree, "votes": str(self.picture)}


def find_inputs(inputs: Sequence[Path], dims: int) -> tuple[list[ClassImage], dict[str, str]]:
    """List the images of files, folders (searched to any depth) and ``.npz`` files.

    Args:
        inputs: paths of the files and folders.
        dims: number of axes of the model's images. If it is 3, a folder with a DICOM series is one
            image.

    Returns:
        The images, and what is wrong with each ``.npz`` file whose images cannot be listed.

    Raises:
        DataError: if an input does not exist or holds no image.
    """
    if not inputs:
        raise DataError("There is nothing to predict.", hint="Name images, folders or .npz files.")
    found: dict[str, ClassImage] = {}
    failed: dict[str, str] = {}
    for path in inputs:
        if not path.exists():
            raise DataError(f"{path}: there is no such file or folder.")
        try:
            images = list(_images(path, dims))
        except DataError as error:
            failed[str(path)] = str(error)
            continue
        if not images:
            raise DataError(f"{path}: there is no image in it.")
        found |= {image.id: image for image in images}
    return list(found.values()), failed


def _images(path: Path, dims: int) -> Iterator[ClassImage]:
    if path.suffix.lower() == ".npz":
        arrays = read_npz(path, lambda name: not name.endswith("labels"))
        for name, array in sorted(arrays.items()):
            for place, read in enumerate(npz_pictures(path, name, array)):
                yield ClassImage(f"{path}:{name}:{place}", read)
    elif path.is_file() or (dims == 3 and is_series(path)):
        yield ClassImage(str(path), partial(read_picture, path))
    else:
        for entry in visible(path):
            if entry.is_dir() or is_image(entry):
                yield from _images(entry, dims)


def predict_images(model: TaskModel, request: PredictRequest, job: Job) -> list[ClassPrediction]:
    """Predict, and write ``predictions.csv`` and ``predictions.json``.

    Raises:
        ConfigError: for an unknown setting or a format.
        DataError: as :func:`find_inputs` raises it.
        PartialFailure: after the last input, if some inputs failed.
        Interrupted: if the job was cancelled; only finished pictures are then written.
    """
    if request.formats:
        raise ConfigError(
            f"The task classification has no format {request.formats[0]!r}: it writes {CSV} and "
            f"{JSON}.",
            hint="Leave the format out.",
        )
    settings = use_settings(request.overrides, request.options)
    seed, classifier = settings.prediction.seed, Classifier.of(model)
    images, unlisted = find_inputs(request.inputs, classifier.facts.dims)
    answers = answer_all(classifier, images, seed, job, PHASE)
    for doubt in answers.doubts:
        logger.warning("%s", doubt)
    failed = {**unlisted, **answers.failed}
    classes = classifier.facts.classes
    results = []
    for image, chances in zip(answers.images, answers.chances, strict=True):
        job.check()
        label = classes[int(chances.argmax())]
        shares = {name: round(float(p), 6) for name, p in zip(classes, chances, strict=True)}
        picture = None
        if settings.options.votes:
            picture = request.out / "votes" / f"{_file_name(image.id, request.inputs)}.gif"
            ready = classifier.prepare(image.read(), image.id)
            draw_votes(model, ready, picture, f"{image.id[-60:]}: {label}", seed)
        unlike = answers.unlike.get(image.id)
        results.append(ClassPrediction(image.id, label, shares, unlike, picture))
    _write(model, results, failed, request.out, seed)
    if failed:
        raise PartialFailure(
            f"{len(failed)} of {len(images) + len(unlisted)} inputs failed; {request.out / JSON} "
            "says why.",
            hint="Mend or leave out these files.",
            failures=failed,
        )
    return results


def _file_name(name: str, inputs: Sequence[Path]) -> str:
    """Return a name for a picture: the path below the input, so that no two images share it."""
    below = next(
        (
            Path(name).relative_to(folder).as_posix()
            for folder in inputs
            if folder.is_dir() and Path(name).is_relative_to(folder) and Path(name) != folder
        ),
        name,
    )
    return safe_id(below)


def _write(
    model: TaskModel,
    results: Sequence[ClassPrediction],
    failed: dict[str, str],
    out: Path,
    seed: int,
) -> None:
    """Write the table, and the list last: where it exists, all other files exist too."""
    classes = Classifier.of(model).facts.classes
    with atomic_file(out / CSV) as path, path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "class", "probability", *(f"p_{name}" for name in classes)])
        for result in results:
            shares = [result.probabilities[name] for name in classes]
            writer.writerow([result.id, result.label, result.probabilities[result.label], *shares])
    spec = model.spec
    tree = {
        "task": spec.task,
        "model": {"name": spec.name, "weights_sha256": spec.weights_sha256},
        "classes": list(classes),
        "settings": {"seed": seed, **engine_settings(model)},
        "predictions": [result.to_dict() for result in results],
        "failed": [{"id": name, "error": text} for name, text in failed.items()],
        "versions": package_versions(),
    }
    write_json(out / JSON, tree)
