"""A segmenting automaton at work: its label map grows on the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.cases.prediction_inputs import CaseInput, find_cases
from medseg_nca.config import LabelTable
from medseg_nca.errors import ConfigError
from medseg_nca.inference.accepted import compare_with_training
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.io.read import read_label
from medseg_nca.metrics.overlap import Counts
from medseg_nca.stages.level_stage import LevelStage, automaton
from medseg_nca.stages.stage import StageInput, StageRequest
from medseg_nca.tasks.segmentation.task import loaded
from medseg_nca.transforms.prepare import Preparation, check_axes, prepare
from medseg_nca.viz.slices import Cut
from medseg_nca.viz.tints import Tint, label_colours, label_tint


class SegmentationStage(LevelStage):
    """The stage of a segmentation.

    Args:
        model: the trained model; of an ensemble its first member is shown.
        prepared: the image as the model sees it, and the true label map if it is known.
        most_voxels: an image with more voxels is made smaller.
    """

    def __init__(self, model: LoadedModel, prepared: Preparation, most_voxels: int) -> None:
        network = automaton(model.model, model.spec.name, model.spec.model.name)
        smallest = model.spec.plan.crop_size
        spacing = prepared.trace.prepared.spacing
        super().__init__(
            network, prepared.image, spacing, smallest, most_voxels, model.device,
            model.spec.prediction,
        )  # fmt: skip
        self.labels = model.spec.labels
        names = self.labels.names
        self.legend = tuple(zip(names, label_colours(len(names)), strict=True))
        self.truth = None if prepared.label is None else self.truth_on_voxels(prepared.label)
        if model.others:
            self.notes = (
                *self.notes,
                f"The model is an ensemble of {len(model.members)}; its first member is shown.",
            )

    def places(self, level: int, state: Tensor) -> NDArray[np.int64]:
        """Return the label map ``(*cells)``: 0 is the background, i + 1 the i-th label."""
        return places_of(self.logits(level, state), self.labels)

    def tint(self, level: int, state: Tensor, plane: Cut) -> Tint:
        """Implement :meth:`Stage.tint`."""
        return label_tint(plane.of(self.places(level, state)), len(self.labels.names))

    def found(self, level: int, state: Tensor) -> NDArray[np.bool_] | None:
        """Implement :meth:`Stage.found`: the cells of the largest label."""
        places = self.places(level, state)
        counts = np.bincount(places.ravel(), minlength=2)[1:]
        mask: NDArray[np.bool_] = places == 1 + int(counts.argmax())
        return mask if counts.any() else None

    def readings(self, level: int, state: Tensor) -> Mapping[str, float]:
        """Implement :meth:`Stage.readings`: the mean Dice of all labels, if the truth is known."""
        if self.truth is None:
            return {}
        logits, scores = self.logits(level, state), []
        places = places_of(logits, self.labels)
        for number in range(len(self.labels.names)):
            if self.labels.multi_label:  # labels may overlap, and each has a mask of its own
                cells, true = logits[number] > 0, self.truth[number] > 0
            else:
                cells, true = places == number + 1, self.truth[0] == number + 1
            dice = Counts.of(self.on_voxels(level, cells), true).dice
            scores += [] if dice is None else [dice]
        return {"Dice": float(np.mean(scores))} if scores else {}


def places_of(logits: NDArray[np.float32], labels: LabelTable) -> NDArray[np.int64]:
    """Turn logits ``(K, *cells)`` into a label map; of labels that overlap, a later one is seen."""
    if not labels.multi_label:
        found: NDArray[np.int64] = logits.argmax(0)
        return found
    places = np.zeros(logits.shape[1:], np.int64)
    for number, channel in enumerate(logits, start=1):
        places[channel > 0] = number
    return places


def stages(request: StageRequest) -> Sequence[StageInput]:
    """Return the stage of every input of a request; see :meth:`Task.stages`."""
    model = loaded(request.model)
    automaton(model.model, model.spec.name, model.spec.model.name)
    request.need_inputs()
    cases = find_cases(request.inputs, model.spec.plan)
    if request.truth is not None and len(cases) != 1:
        raise ConfigError(
            f"{request.truth}: is the truth of one image, but there are {len(cases)}.",
            hint="Name one image.",
        )
    return [
        StageInput(case.name, case.source, partial(_open, model, case, request)) for case in cases
    ]


def _open(model: LoadedModel, case: CaseInput, request: StageRequest) -> SegmentationStage:
    volume, spec = case.read(), model.spec
    check_axes(volume, spec.plan)
    plan = compare_with_training(volume, spec.plan, spec.decided(spec.prediction)).plan
    truth: Path | None = request.truth
    label = None if truth is None else read_label(truth, volume)
    return SegmentationStage(model, prepare(volume, plan, label, spec.labels), request.most_voxels)
