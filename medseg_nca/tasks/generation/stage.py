"""A growing automaton at work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.datasets.layout import safe_id
from medseg_nca.errors import ConfigError
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.metrics.overlap import Counts
from medseg_nca.nca import Cell, Fire
from medseg_nca.nca.engines.base import Engine
from medseg_nca.nca.fire import mix
from medseg_nca.stages.stage import Stage, StageInput, StageLevel, StageRequest
from medseg_nca.tasks.generation.growth import facts_of, module_of
from medseg_nca.tasks.generation.prediction import start_state
from medseg_nca.viz.slices import Cut
from medseg_nca.viz.tints import Tint, white_tint

# A cell belongs to the picture where its alpha is above this, as its living cells do.
_SEEN = 0.1


class GenerationStage(Stage):
    """The stage of a growth; the target that the model holds is its truth.

    Args:
        model: the trained model.
        number: of the target.
        source: a picture that the growth begins with; None begins with the seed.
    """

    def __init__(self, model: TaskModel, number: int, source: Path | None = None) -> None:
        self.model, self.number = module_of(model), number
        self.device = model.device
        shape = self.model.shape
        self.genome = self.model.genome(number)
        self.first = start_state(model, source, self.genome)
        self.dims, self.fixed = len(shape.grid), shape.genome_channels
        seen = ("red", "green", "blue", "alpha") if shape.visible == 4 else ("grey", "alpha")
        hidden = self.model.cell.channels - shape.genome_channels - shape.visible
        self.names = (
            *(f"genome {place}" for place in range(shape.genome_channels)),
            *seen,
            *(f"hidden {place}" for place in range(hidden)),
        )
        self.levels = (StageLevel(self.model.steps, shape.grid, (1,) * self.dims),)

    def start(self, level: int, before: Tensor | None) -> Tensor:
        """Implement :meth:`Stage.start`."""
        return self.first.to(self.device)

    def cell(self, level: int) -> Cell:
        """Implement :meth:`Stage.cell`."""
        return self.model.cell

    def engine(self, level: int) -> Engine:
        """Implement :meth:`Stage.engine`."""
        return self.model.engine

    def fire(self, level: int, state: Tensor, seed: int) -> Fire:
        """Implement :meth:`Stage.fire`."""
        settings = self.model.settings
        return Fire(settings.cell.fire_rate, (mix(seed, 0),), settings.fire)

    def tint(self, level: int, state: Tensor, plane: Cut) -> Tint:
        """Implement :meth:`Stage.tint`: the picture on white."""
        return white_tint(plane.of(self.model.visible(state)[0].float().cpu().numpy()))

    def found(self, level: int, state: Tensor) -> NDArray[np.bool_] | None:
        """Implement :meth:`Stage.found`: the cells of the target."""
        return np.asarray((self.model.targets[self.number, -1] > _SEEN).cpu().numpy())

    def readings(self, level: int, state: Tensor) -> Mapping[str, float]:
        """Implement :meth:`Stage.readings`: the loss, and the Dice of the cells that are seen."""
        seen, wanted = self.model.visible(state)[0].float(), self.model.targets[self.number]
        alive, true = ((a[-1] > _SEEN).cpu().numpy() for a in (seen, wanted))
        dice = Counts.of(alive, true).dice
        loss = float((seen - wanted).square().mean())
        return {"loss": loss} if dice is None else {"loss": loss, "Dice": dice}

    def seed_values(self, level: int) -> Tensor:
        """Implement :meth:`Stage.seed_values`: those of the cells that a growth begins with."""
        shape = self.model.shape
        state = self.model.seed_state(self.genome)[0, shape.genome_channels :].flatten(1)
        return state[:, int(state[-1].argmax())].clone()


def stages(model: TaskModel, request: StageRequest) -> Sequence[StageInput]:
    """Return the stage of every target, from the seed or from every picture that is named.

    Raises:
        ConfigError: if a truth is given: the model holds its targets.
    """
    if request.truth is not None:
        raise ConfigError(
            f"{request.truth}: a growing model holds its own targets.", hint="Leave the truth out."
        )
    names = facts_of(model).targets
    found = []
    for source in request.inputs or (None,):
        for number, name in enumerate(names):
            parts = [source.name.partition(".")[0]] if source else []
            parts += [name] if len(names) > 1 or not source else []
            found.append(
                StageInput(safe_id("_".join(parts)), source, partial(_open, model, number, source))
            )
    return found


@torch.inference_mode()
def _open(model: TaskModel, number: int, source: Path | None) -> GenerationStage:
    return GenerationStage(model, number, source)
