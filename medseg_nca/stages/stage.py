"""An automaton at work on one input, a step at a time: what a film and the live page show.

A task that can be watched implements :meth:`medseg_nca.tasks.base.Task.stages`, which returns one
:class:`Stage` for each input. Who watches decides when the next step is taken, with which seed and
fire rate, and may change the state in between.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.errors import DataError
from medseg_nca.inference.step_factor import times_count
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.engines.base import Engine
from medseg_nca.nca.stepwise import changes
from medseg_nca.viz.slices import Cut
from medseg_nca.viz.tints import Tint

if TYPE_CHECKING:
    from medseg_nca.inference.trained import TrainedModel

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class StageRequest:
    """What is to be watched.

    Attributes:
        model: the trained model.
        inputs: files or folders; a task that needs no input takes none too.
        most_voxels: an image with more voxels is made smaller, by averaging blocks of them.
        truth: file of the true answer to the only input; None if there is none.
    """

    model: TrainedModel
    inputs: Sequence[Path] = ()
    most_voxels: int = 2_000_000
    truth: Path | None = None

    def need_inputs(self) -> None:
        """Raise ``DataError`` where no input is named; for tasks that cannot do without."""
        if not self.inputs:
            raise DataError("There is nothing to show.", hint="Name an image.")


@dataclass(frozen=True)
class StageInput:
    """An input that can be watched; it is read when it is opened.

    Attributes:
        name: name for files, without a suffix; no two inputs of a request share it.
        source: the file; None if the automaton needs none.
        open: returns the stage. Raises ``ImageError`` if the input does not fit the model.
    """

    name: str
    source: Path | None
    open: Callable[[], Stage]


@dataclass(frozen=True)
class StageLevel:
    """One level of an automaton on one input.

    Attributes:
        steps: number of steps at inference.
        size: cells per axis.
        scale: voxels of the image that a cell covers, per axis.
    """

    steps: int
    size: tuple[int, ...]
    scale: tuple[int, ...]


class Stage(ABC):
    """An automaton at work on one input; states are ``(1, C, *cells)``.

    Attributes:
        dims: number of spatial axes.
        levels: coarse to fine.
        image: the input as the model sees it, ``(C, *S)``; None if it sees no image.
        spacing: mm between its voxels, per axis; empty where all are alike.
        names: names of the channels of a state.
        fixed: number of first channels that are no cell's own (the image, a genome): no step
            changes them, and neither does damage.
        legend: what the colours of :meth:`tint` mean.
        notes: what a watcher should know of this input, in sentences.
    """

    dims: int
    levels: tuple[StageLevel, ...]
    image: NDArray[np.float32] | None = None
    spacing: tuple[float, ...] = ()
    names: tuple[str, ...]
    fixed: int = 0
    legend: tuple[tuple[str, Colour], ...] = ()
    notes: tuple[str, ...] = ()

    @abstractmethod
    def start(self, level: int, before: Tensor | None) -> Tensor:
        """Return the first state of a level, from the last state of the level before."""

    @abstractmethod
    def cell(self, level: int) -> Cell:
        """Return the cell of a level."""

    @abstractmethod
    def engine(self, level: int) -> Engine:
        """Return who computes the steps of a level."""

    @abstractmethod
    def fire(self, level: int, state: Tensor, seed: int) -> Fire:
        """Return which cells update on a level, with the rate of the model, from its first step."""

    @abstractmethod
    def tint(self, level: int, state: Tensor, plane: Cut) -> Tint:
        """Return the answer of the cells of a plane in colours: labels, votes, values, a picture.

        Args:
            level: index of the level.
            state: its state.
            plane: a cut through the cells of the level.
        """

    def found(self, level: int, state: Tensor) -> NDArray[np.bool_] | None:
        """Return the cells ``(*cells)`` by which the slice of a volume is chosen; maybe None."""
        return None

    def readings(self, level: int, state: Tensor) -> Mapping[str, float]:
        """Return numbers about a state by their names, such as the Dice against the truth."""
        return {}

    def seed_values(self, level: int) -> Tensor:
        """Return what a seeded cell holds in the channels after the fixed ones, ``(C - fixed,)``.

        Here every channel is 1.
        """
        return torch.ones(self.cell(level).channels - self.fixed)

    @torch.inference_mode()
    def step(
        self, level: int, state: Tensor, number: int, seed: int, rate: float | None = None
    ) -> Tensor:
        """Take one step, as the model takes it at inference.

        Args:
            level: index of the level.
            state: its state, which is not changed.
            number: how many steps the level has taken before.
            seed: seed of the fire mask.
            rate: probability that a cell updates; None takes that of the model.

        Raises:
            NonFiniteStateError: if a value becomes NaN or infinite.
        """
        fire = self.fire(level, state, seed).advance(number)
        if rate is not None:
            fire = replace(fire, rate=rate)
        return roll_out(self.engine(level), self.cell(level), state, 1, fire)

    def change(self, level: int, before: Tensor, after: Tensor) -> float:
        """Return the mean absolute change of the channels that cells change, clocks left out."""
        return float(changes(self.cell(level), before, after)[0])


@dataclass(frozen=True)
class Moment:
    """A state of an automaton at work.

    Attributes:
        level: index of the level.
        number: how many steps the level has taken.
        steps: how many it takes in all.
        state: ``(1, C, *cells)``.
    """

    level: int
    number: int
    steps: int
    state: Tensor


def steps_of(stage: Stage, factor: float) -> tuple[int, ...]:
    """Return how many steps each level takes with ``factor`` times those of inference, at least 1.

    They are rounded as those of ``prediction.step_factor`` are. A level without steps stays
    without.
    """
    trained = (level.steps for level in stage.levels)
    return tuple(times_count(steps, factor) if steps else 0 for steps in trained)


def walk(stage: Stage, seed: int, factor: float = 1.0, last: int | None = None) -> Iterator[Moment]:
    """Take all steps of all levels, and yield every state, that before a level's first step too.

    A model that stops by itself (the option ``stop`` of its cell) ends its level early.

    Args:
        stage: the automaton and its input.
        seed: seed of the fire masks.
        factor: how many times the steps of inference are taken.
        last: index of the last level; None takes all.

    Raises:
        NonFiniteStateError: if a value becomes NaN or infinite.
    """
    state: Tensor | None = None
    levels = len(stage.levels) if last is None else last + 1
    for level, steps in enumerate(steps_of(stage, factor)[:levels]):
        with torch.inference_mode():
            state = stage.start(level, state)
        yield Moment(level, 0, steps, state)
        stop = stage.cell(level).settings.stop
        for number in range(steps):
            before, state = state, stage.step(level, state, number, seed)
            yield Moment(level, number + 1, steps, state)
            quiet = stop is not None and stage.change(level, before, state) < stop.tolerance
            if stop is not None and quiet and number + 1 >= stop.least:
                break


def plane_of(cut: Cut, level: StageLevel) -> Cut:
    """Return the cut through the cells of a level that holds a cut through the voxels."""
    if cut.axis is None:
        return cut
    index = min(cut.index // level.scale[cut.axis], level.size[cut.axis] - 1)
    return Cut(cut.axis, index, cut.dims)


def numbers(state: Tensor) -> NDArray[Any]:
    """Return a state ``(1, C, *cells)`` as an array ``(C, *cells)`` on the CPU."""
    array: NDArray[Any] = state[0].float().cpu().numpy()
    return array
