"""A regressing automaton at work: its values take shape."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.cases.prediction_inputs import CaseInput, find_cases
from medseg_nca.errors import ConfigError
from medseg_nca.inference.accepted import compare_with_training
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.stages.level_stage import LevelStage, automaton
from medseg_nca.stages.stage import StageInput, StageRequest
from medseg_nca.tasks.regression.options import RegressionFacts, facts_of
from medseg_nca.tasks.regression.values import restored_values
from medseg_nca.transforms.prepare import Preparation, check_axes, prepare
from medseg_nca.viz.slices import Cut
from medseg_nca.viz.tints import Tint, value_tint


class RegressionStage(LevelStage):
    """The stage of a regression, which shows its first target.

    Args:
        model: the trained model.
        facts: what it knows of its data.
        prepared: the prepared image.
        most_voxels: an image with more voxels is made smaller.
    """

    def __init__(
        self,
        model: TaskModel,
        facts: RegressionFacts,
        prepared: Preparation,
        most_voxels: int,
    ) -> None:
        network = automaton(model.module, model.spec.name, model.spec.model.name)
        spacing, smallest = prepared.trace.prepared.spacing, facts.plan.crop_size
        super().__init__(
            network, prepared.image, spacing, smallest, most_voxels, model.device, facts.prediction
        )
        self.facts = facts
        target = facts.targets[0]
        ends = value_tint(np.array([[0.0, 1.0]]), 0, 1).colours[0]
        self.legend = tuple(
            (f"{target.name} {value:.3g} {facts.unit}".rstrip(), _rgb(colour))
            for value, colour in zip((target.low, target.high), ends, strict=True)
        )

    def tint(self, level: int, state: Tensor, plane: Cut) -> Tint:
        """Implement :meth:`Stage.tint`: from the smallest to the largest value of the training."""
        values = restored_values(self.logits(level, state).copy(), self.facts)[0]
        target = self.facts.targets[0]
        return value_tint(plane.of(values), target.low, target.high)


def _rgb(colour: NDArray[np.float32]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * float(part)) for part in colour)
    return red, green, blue


def stages(model: TaskModel, request: StageRequest) -> Sequence[StageInput]:
    """Return the stage of every input of a request; see :meth:`Task.stages`."""
    automaton(model.module, model.spec.name, model.spec.model.name)
    if request.truth is not None:
        raise ConfigError(
            f"{request.truth}: a regression is watched without a truth.",
            hint="medseg-nca evaluate compares it with the truth.",
        )
    request.need_inputs()
    facts = facts_of(model.spec, model.folder)
    return [
        StageInput(case.name, case.source, partial(_open, model, facts, case, request.most_voxels))
        for case in find_cases(request.inputs, facts.plan)
    ]


def _open(
    model: TaskModel, facts: RegressionFacts, case: CaseInput, most_voxels: int
) -> RegressionStage:
    volume = case.read()
    check_axes(volume, facts.plan)
    plan = compare_with_training(volume, facts.plan, facts.prediction).plan
    return RegressionStage(model, facts, prepare(volume, plan), most_voxels)
