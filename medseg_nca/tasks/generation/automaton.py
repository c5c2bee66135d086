"""The automaton of the task: it sees no image, and its first channels are the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medseg_nca.config.loading import validate
from medseg_nca.config.model import ModelSettings, NcaModelSettings
from medseg_nca.errors import ConfigError
from medseg_nca.inference.task_model import TaskSpec
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.engines import get_engine
from medseg_nca.nca.engines.base import Record
from medseg_nca.nca.fire import mix
from medseg_nca.nca.stepwise import around
from medseg_nca.tasks.generation.options import GenerationFacts, GenerationOptions


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that its weights do not tell.

    Attributes:
        grid: number of cells along each axis.
        visible: number of channels that are the picture; the last one is alpha.
        targets: number of targets that the model grows.
        genome: "channels" or "seed", see :class:`GenerationOptions`.
        seeds: places of the first living cells, as shares of the grid; none stands for one cell in
            the middle.
    """

    grid: tuple[int, ...]
    visible: int
    targets: int
    genome: str = "channels"
    seeds: tuple[tuple[float, ...], ...] = ()

    @property
    def genome_channels(self) -> int:
        """The number of channels before the visible ones that hold the genome."""
        return self.targets if self.targets > 1 and self.genome == "channels" else 0

    @classmethod
    def of(cls, spec: TaskSpec) -> Shape:
        """Return the sizes that ``model.json`` says.

        Raises:
            ConfigError: if its options or facts are wrong; the message names the field.
        """
        options, facts = read_parts(spec)
        return cls(facts.grid, facts.visible, len(facts.targets), options.genome, options.seeds)


class GrowingNca(nn.Module):
    """Grows targets from seeds (Growing NCA, Mordvintsev et al., Distill 2020).

    The state is ``(B, [genome | visible | hidden], *grid)``. The targets are stored with the
    weights, so that a model can be evaluated without its data.

    Raises:
        ConfigError: if the settings ask for something that this model does not have.
    """

    targets: Tensor

    def __init__(self, settings: ModelSettings, shape: Shape) -> None:
        super().__init__()
        self.settings = check_settings(settings, shape)
        self.shape = shape
        self.cell = Cell(self.settings.cell, shape.genome_channels, self.settings.dims)
        self.taken: tuple[int, ...] = ()
        self.engine = around(get_engine(self.settings.engine), self.settings.cell, self._note)
        stored = torch.zeros(shape.targets, shape.visible, *shape.grid)
        self.register_buffer("targets", stored)

    def _note(self, taken: tuple[int, ...]) -> None:
        self.taken = taken

    @property
    def steps(self) -> int:
        """The mean number of trained steps, rounded."""
        low, high = self.trained_steps
        return (low + high + 1) // 2

    @property
    def trained_steps(self) -> tuple[int, int]:
        """The fewest and the most steps of a training sample."""
        steps = self.settings.resolved_levels[0].steps
        return steps if isinstance(steps, tuple) else (steps, steps)

    def genome(self, target: int) -> tuple[float, ...]:
        """Return the genome of one target: 1 in its place, 0 elsewhere."""
        return tuple(float(number == target) for number in range(self.shape.targets))

    def seed_state(self, genome: Sequence[float]) -> Tensor:
        """Return a state ``(1, C, *grid)`` in which only the cells of the seed live.

        Alpha and all hidden channels of these cells are 1, and their colours are 0.
        """
        shape, first = self.shape, self.shape.genome_channels
        state = torch.zeros(1, self.cell.channels, *shape.grid)
        values = torch.ones(self.cell.channels - first)
        values[: shape.visible - 1] = 0
        if shape.targets > 1 and not first:
            values[shape.visible : shape.visible + shape.targets] = torch.tensor(genome)
        for place in shape.seeds or ((0.5,) * len(shape.grid),):
            cell = [min(int(n * p), n - 1) for n, p in zip(shape.grid, place, strict=True)]
            where: Any = (0, slice(first, None), *cell)
            state[where] = values
        return self.with_genome(state, genome)

    def with_genome(self, state: Tensor, genome: Sequence[float]) -> Tensor:
        """Write a genome into every cell of a state, in place, if cells have channels for it."""
        first = self.shape.genome_channels
        if first:
            values = torch.tensor(genome).view(1, first, *[1] * len(self.shape.grid))
            state[:, :first] = values
        return state

    def visible(self, state: Tensor) -> Tensor:
        """Return the picture ``(B, V, *grid)`` of a state: colours times alpha, and alpha."""
        first = self.shape.genome_channels
        return state[:, first : first + self.shape.visible]

    def forward(
        self, state: Tensor, steps: int, seed: int, first: int = 0, record: Record | None = None
    ) -> Tensor:
        """Take some steps.

        Args:
            state: a state ``(B, C, *grid)``.
            steps: number of steps.
            seed: seed of the fire mask, from which each sample gets a seed of its own.
            first: number of steps that were taken before.
            record: called with the state after every step.

        Raises:
            NonFiniteStateError: if a value becomes NaN or infinite; the message names the step.
        """
        return self.run(state, steps, [mix(seed, s) for s in range(len(state))], first, record)

    def run(
        self, state: Tensor, steps: int, seeds: Sequence[int], first: int = 0,
        record: Record | None = None,
    ) -> Tensor:  # fmt: skip
        """Take some steps as :meth:`forward` does, with a given fire seed for every sample."""
        fire = Fire(self.settings.cell.fire_rate, tuple(seeds), self.settings.fire, None, first)
        self.taken = (steps,) * len(state)
        return roll_out(
            self.engine, self.cell, state, steps, fire,
            checkpoint=self.settings.checkpoint, record=record,
        )  # fmt: skip


def read_parts(spec: TaskSpec) -> tuple[GenerationOptions, GenerationFacts]:
    """Return the options and facts of a model.

    Raises:
        ConfigError: if they are wrong; the message names the field.
    """
    options = validate(GenerationOptions, spec.options, source="options")
    facts = validate(GenerationFacts, spec.facts, source="facts")
    if any(len(place) != len(facts.grid) for place in options.seeds):
        raise ConfigError(f"options.seeds: each needs {len(facts.grid)} numbers, as the grid has.")
    if facts.visible != (4 if len(facts.grid) == 2 else 2):
        raise ConfigError(
            f"facts.visible is {facts.visible}: of pictures 4 channels are seen, of volumes 2."
        )
    return options, facts


def build(spec: TaskSpec) -> GrowingNca:
    """Build the network that ``model.json`` describes, without its weights."""
    return GrowingNca(spec.model, Shape.of(spec))


def check_settings(settings: ModelSettings, shape: Shape) -> NcaModelSettings:
    """Refuse settings that a growing automaton does not have.

    Raises:
        ConfigError: if there is such a setting; the message names it.
    """
    if not isinstance(settings, NcaModelSettings):
        raise ConfigError(
            f"The task generation grows an automaton; {settings.name} is another network.",
            hint="Use the preset growing_emblem, or a model of family nca.",
        )
    dims = len(shape.grid)
    if settings.dims != dims:
        raise ConfigError(
            f"model.dims is {settings.dims}, but the target has {dims} axes.",
            hint=f"Set model.dims={dims}.",
        )
    level = settings.resolved_levels[0]
    unused: dict[str, Any] = {
        "levels: more than one": len(settings.resolved_levels) > 1,
        "levels.0.scale": level.scale not in (1, (1,) * dims),
        "levels.0.patch": level.patch is not None,
        "levels.0.kernel": level.kernel is not None,
        f"head: {settings.head}": settings.head != "channels",
        "global_context": settings.global_context,
        "focus": settings.focus is not None,
        "persist": settings.persist is not None,
        "cell.update.update_image": settings.cell.update.update_image,
    }
    for name, given in unused.items():
        if given:
            raise ConfigError(f"model.{name} has no meaning in the task generation.")
    needed = shape.genome_channels + shape.visible + (
        shape.targets if shape.targets > 1 and not shape.genome_channels else 0
    )  # fmt: skip
    free = settings.cell.channels - settings.cell.clock_channels
    if free < needed:
        raise ConfigError(
            f"cell.channels is {settings.cell.channels}, but the genome, what is seen and the "
            f"clock take {needed + settings.cell.clock_channels}.",
            hint="Set more model.cell.channels.",
        )
    alive = settings.cell.alive
    if alive is not None and alive.channel != shape.visible - 1:
        raise ConfigError(
            f"model.cell.alive.channel is {alive.channel}, but alpha is channel "
            f"{shape.visible - 1} of these targets.",
            hint=f"Set model.cell.alive.channel={shape.visible - 1}.",
        )
    return settings
