"""Choose the images that a model is evaluated on, and call their classes as the model does."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from medseg_nca.datasets.class_split import split_classes
from medseg_nca.datasets.classes.base import ClassData, ClassImage
from medseg_nca.datasets.find_classes import open_classes, rename_classes
from medseg_nca.datasets.redraw import split_again, split_file
from medseg_nca.datasets.sides import ChosenSide, check_side, choose_side
from medseg_nca.datasets.splits import SIDES, Split
from medseg_nca.errors import DataError
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.tasks.classification.classify import Classifier


def open_for(model: TaskModel, path: Path | None, format: str = "auto") -> ClassData:
    """Open a data set, and check that the model knows its classes.

    Args:
        model: the model that is to be evaluated.
        path: the data set; None takes the built-in one that the model was trained on.
        format: layout of the data set; "auto" finds it out.

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


def choose(model: TaskModel, data: ClassData, side: str) -> ChosenSide[ClassImage]:
    """Choose the images of one side of a data set.

    The data set that the model was trained on is divided as in the training. In another data set
    the sides are those that it prescribes, or else those of the run's split, by the names of the
    images. If neither is known, all images are taken.

    Raises:
        DataError: if the side is unknown, or it has no image.
    """
    check_side(side)
    learned = data.hash == model.spec.training_data_hash
    if learned or side == "all":
        split = None if side == "all" else _own_split(model, data)
        return choose_side(data.images, split, side, learned=learned, noun="images")
    other = ("The model was trained on another data set.",)
    prescribed = _prescribed(data)
    if prescribed is not None:
        found = choose_side(
            data.images, prescribed, side, noun="images", source="the data set's own split"
        )
        return replace(found, notes=other)
    split = split_file(model.folder) if data.named else None
    found = choose_side(data.images, split, side, noun="images")
    if found.unsplit:
        return replace(found, notes=other)
    note = "The data set has changed since the run split it; images are matched by name."
    return replace(found, notes=(note,))


def _prescribed(data: ClassData) -> Split | None:
    """Return the sides that the data set itself prescribes; None if it prescribes none."""
    sides = {name: [i.id for i in data.images if i.split == name] for name in SIDES}
    return Split.model_validate(sides) if any(sides.values()) else None


def _own_split(model: TaskModel, data: ClassData) -> Split | None:
    """Return how the training divided this very data set; None if that is not known."""
    facts = Classifier.of(model).facts
    # Names of classes take no part in the draw, but their order would.
    order = {name: place for place, name in enumerate(facts.classes)}
    same = replace(data, classes=tuple(sorted(data.classes, key=order.__getitem__)))
    return split_again(
        model.folder, data.hash, facts.split, facts.listed, partial(split_classes, same)
    )
