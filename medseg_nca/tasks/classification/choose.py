"""Which images of a data set a model is evaluated on, and what their classes are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from medseg_nca.datasets.class_split import split_classes
from medseg_nca.datasets.classes.base import ClassData, ClassImage
from medseg_nca.datasets.find_classes import open_classes, rename_classes
from medseg_nca.datasets.redraw import SEEN, split_again, split_file
from medseg_nca.datasets.splits import SIDES, Split
from medseg_nca.errors import DataError
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.tasks.classification.classify import Classifier


@dataclass(frozen=True)
class Chosen:
    """The images to evaluate.

    Attributes:
        data: the data set that they are of, with the classes called as the model calls them.
        images: at least one.
        part: "train", "val", "test" or "all".
        reason: one sentence for the reader of the results.
        notes: what the reader should beware of.
    """

    data: ClassData
    images: tuple[ClassImage, ...]
    part: str
    reason: str
    notes: tuple[str, ...] = ()


def open_for(model: TaskModel, path: Path | None, format: str = "auto") -> ClassData:
    """Open a data set and see that the model knows its classes.

    Args:
        model: to be evaluated.
        path: of the data set; None takes the built-in one that the model was trained on.
        format: of the data set.

    Raises:
        DataError: if there is no data set, or it has a class that the model does not know.
    """
    classifier = Classifier.of(model)
    facts, known = classifier.facts, classifier.facts.classes
    path = path or (Path(classifier.options.data) if classifier.options.data else None)
    if path is None:
        raise DataError("The task classification needs data.", hint="Name them with --data.")
    data = open_classes(path, format)
    names = dict(zip(facts.own_names, known, strict=False))
    if names.keys() >= set(data.classes) and not (data.named and set(data.classes) <= set(known)):
        data = rename_classes(data, names)
    strange = [name for name in data.classes if name not in known]
    if strange:
        raise DataError(
            f"The data set has the class {strange[0]!r}, which the model does not know; it knows "
            f"{', '.join(known)}.",
            hint="Call the classes as they were called in the training.",
        )
    return data


def choose(model: TaskModel, data: ClassData, part: str) -> Chosen:
    """Choose one side of a data set.

    The training's own data set is divided as in the training. Of another one the sides that it
    prescribes are taken, then the cases that the run's split names; without either all of it.

    Raises:
        DataError: if there is no such side, or no image on it.
    """
    if part not in (*SIDES, "all"):
        raise DataError(f"Unknown split {part!r}.", hint=f"Use one of: {', '.join(SIDES)}, all.")
    if part == "all":
        return Chosen(data, data.images, "all", "All images, as asked.", _seen(model, data))
    split = _own_split(model, data)
    if split is not None:
        reason = f"The {part} images of the run's split."
        return _side(data, split.side(part), part, reason)
    if data.hash == model.spec.training_data_hash:
        reason = "It is not known how the run split this data set: all images."
        return Chosen(data, data.images, "all", reason, _seen(model, data))
    notes = ("The model was trained on another data set.",)
    if any(image.split is not None for image in data.images):
        names = [image.id for image in data.images if image.split == part]
        return _side(data, names, part, f"The {part} images, as the data set says.", notes)
    run = split_file(model.folder) if data.named else None
    names = [] if run is None else [i for i in run.side("all") if i in _ids(data)]
    if run is not None and names:
        note = "The data set has changed since the run split it; images are matched by name."
        return _side(data, run.side(part), part, f"The {part} images of the run's split.", (note,))
    return Chosen(data, data.images, "all", "The run never split this data set: all images.", notes)


def _own_split(model: TaskModel, data: ClassData) -> Split | None:
    """How the training divided this very data set."""
    if data.hash != model.spec.training_data_hash:
        return None
    facts = Classifier.of(model).facts
    # Names of classes take no part in the draw, but their order would.
    order = {name: place for place, name in enumerate(facts.classes)}
    same = replace(data, classes=tuple(sorted(data.classes, key=order.__getitem__)))
    return split_again(
        model.folder, data.hash, facts.split, facts.listed, partial(split_classes, same)
    )


def _ids(data: ClassData) -> set[str]:
    return {image.id for image in data.images}


def _seen(model: TaskModel, data: ClassData) -> tuple[str, ...]:
    if data.hash != model.spec.training_data_hash:
        return ()
    return (SEEN,)


def _side(
    data: ClassData, names: Sequence[str], part: str, reason: str, notes: tuple[str, ...] = ()
) -> Chosen:
    wanted = set(names)
    images = tuple(image for image in data.images if image.id in wanted)
    if not images:
        raise DataError(
            f"{data.name}: there is no {part} image.",
            hint="Choose another --split, or --split all; the model has seen those of train.",
        )
    return Chosen(data, images, part, reason, notes)
