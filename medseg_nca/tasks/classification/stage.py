"""A classifying automaton at work: its cells vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from medseg_nca.datasets.classes.base import ClassImage
from medseg_nca.datasets.layout import safe_id
from medseg_nca.errors import ConfigError, ImageError
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.nca import Cell, Fire
from medseg_nca.nca.engines.base import Engine
from medseg_nca.nca.fire import mix
from medseg_nca.stages.stage import Stage, StageInput, StageLevel, StageRequest
from medseg_nca.tasks.classification.classify import Classifier
from medseg_nca.tasks.classification.predict import find_inputs
from medseg_nca.tasks.classification.prepare import Array
from medseg_nca.viz.classes import class_colours
from medseg_nca.viz.slices import Cut
from medseg_nca.viz.tints import Tint, share_tint


class ClassificationStage(Stage):
    """The stage of a classification; images have the size of the training.

    Args:
        classifier: of the trained model.
        image: the prepared image ``(C, *S)``.
    """

    def __init__(self, classifier: Classifier, image: Array) -> None:
        self.classifier, self.model, self.image = classifier, classifier.module, image
        self.dims = self.model.dims
        self.input = torch.from_numpy(image)[None].to(classifier.device)
        self.fixed = self.model.in_channels
        self.names = (
            *(f"image {number}" for number in range(self.fixed)),
            *(f"hidden {number}" for number in range(self.model.hidden)),
        )
        self.colours = class_colours(self.model.classes)
        self.legend = tuple(zip(classifier.facts.classes, self.colours, strict=True))
        size = tuple(self.model.start(self.input).shape[2:])
        self.levels = (StageLevel(self.model.usual_steps, size, self.model.scale),)

    def start(self, level: int, before: Tensor | None) -> Tensor:
        """Implement :meth:`Stage.start`."""
        return self.model.start(self.input)

    def cell(self, level: int) -> Cell:
        """Implement :meth:`Stage.cell`."""
        return self.model.cell

    def engine(self, level: int) -> Engine:
        """Implement :meth:`Stage.engine`."""
        return self.model.engine

    def fire(self, level: int, state: Tensor, seed: int) -> Fire:
        """Implement :meth:`Stage.fire`."""
        return self.model.fire(state, (mix(seed),))

    @torch.inference_mode()
    def tint(self, level: int, state: Tensor, plane: Cut) -> Tint:
        """Implement :meth:`Stage.tint`: each cell has the colour of the class it is for."""
        shares = self.model.cell_shares(state)[0].float().cpu().numpy()
        return share_tint(plane.of(shares), self.colours)

    @torch.inference_mode()
    def readings(self, level: int, state: Tensor) -> Mapping[str, float]:
        """Implement :meth:`Stage.readings`: the most probable class with its probability."""
        facts = self.classifier.facts
        chances = self.model.read(state).probabilities(facts.temperature)[0]
        best = int(chances.argmax())
        return {facts.classes[best]: float(chances[best])}


def stages(model: TaskModel, request: StageRequest) -> Sequence[StageInput]:
    """Return the stage of every input of a request; see :meth:`Task.stages`.

    Raises:
        DataError: if there is no input.
        ImageError: if the images of an input cannot be listed.
    """
    if request.truth is not None:
        raise ConfigError(
            f"{request.truth}: a classification is watched without a truth.",
            hint="medseg-nca evaluate compares it with the truth.",
        )
    request.need_inputs()
    classifier = Classifier.of(model)
    images, unlisted = find_inputs(request.inputs, classifier.facts.dims)
    for text in unlisted.values():
        raise ImageError(text)
    folders = [str(path) for path in request.inputs if path.is_dir()]
    return [
        StageInput(
            _name(image.id, [str(f) for f in folders]), None, partial(_open, classifier, image)
        )
        for image in images
    ]


def _name(image: str, folders: Sequence[str]) -> str:
    """Return a name for files: the path below the folder that was named, or the file's name."""
    below = next((image[len(f) :] for f in folders if image.startswith(f)), None)
    return safe_id((below or image.rpartition("/")[2]).strip("/"))


def _open(classifier: Classifier, image: ClassImage) -> ClassificationStage:
    return ClassificationStage(classifier, classifier.prepare(image.read(), image.id))
