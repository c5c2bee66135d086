"""Take the steps of one growth at inference, and keep pictures and losses of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.inference.task_model import TaskModel
from medseg_nca.job import Job
from medseg_nca.tasks.generation.automaton import GrowingNca, read_parts
from medseg_nca.tasks.generation.options import GenerationFacts

FloatArray = NDArray[np.float32]


@dataclass
class Film:
    """Keeps the pictures after some steps of a growth, and the loss after every step.

    Args:
        keep: returns whether the picture after that many steps is kept.
        wanted: the target ``(V, *grid)``; without it there are no losses.

    Attributes:
        frames: the pictures, each ``(V, *grid)``.
        numbers: for each picture, the number of steps after which it was taken.
        losses: the mean squared error after each step.
    """

    keep: Callable[[int], bool] = lambda step: False
    wanted: Tensor | None = None
    frames: list[FloatArray] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def first(self, seen: Tensor) -> None:
        """Keep the picture before the first step, ``(1, V, *grid)``."""
        self.frames.append(seen[0].float().cpu().numpy().copy())
        self.numbers.append(0)

    def add(self, step: int, seen: Tensor) -> None:
        """Take the picture ``(1, V, *grid)`` after a step."""
        if self.wanted is not None:
            wanted = self.wanted.to(seen.device)
            self.losses.append(float((seen[0].float() - wanted).square().mean()))
        if self.keep(step):
            self.frames.append(seen[0].float().cpu().numpy().copy())
            self.numbers.append(step)


def facts_of(model: TaskModel) -> GenerationFacts:
    """Return what a model of this task knows of its targets.

    Raises:
        ConfigError: if the facts are wrong, which they are in no model that was read from files.
    """
    return read_parts(model.spec)[1]


def module_of(model: TaskModel) -> GrowingNca:
    """Return the network of a model of this task."""
    return cast(GrowingNca, model.module)


def wanted_of(model: TaskModel, target: int) -> Tensor:
    """Return a target ``(V, *grid)`` of a model, on the CPU."""
    return module_of(model).targets[target].cpu()


@torch.inference_mode()
def grow(
    model: TaskModel, state: Tensor, steps: int, seed: int, first: int = 0,
    film: Film | None = None, job: Job | None = None,
) -> tuple[Tensor, int]:  # fmt: skip
    """Take a state through some steps.

    Args:
        model: a model of the task.
        state: a state ``(1, C, *grid)``.
        steps: number of steps.
        seed: seed of the fire mask.
        first: number of steps that were taken before.
        film: gets the picture after every step.
        job: asked in every step whether to go on.

    Returns:
        The new state, and the number of steps that were taken, which is smaller if the automaton
        stopped by itself.

    Raises:
        NonFiniteStateError: if a value becomes NaN or infinite; the message names the step.
        Interrupted: if the job was cancelled.
    """
    module, done = module_of(model), first

    def record(now: Tensor) -> None:
        nonlocal done
        done += 1
        if job is not None:
            job.check()
        if film is not None:
            film.add(done, module.visible(now))

    after = module.run(state.to(model.device), steps, (seed,), first, record)
    return after, module.taken[0]


def wound(model: TaskModel, state: Tensor, keep: Tensor) -> Tensor:
    """Return a state ``(1, C, *grid)`` without the cells that are cut off; the genome stays."""
    first = module_of(model).shape.genome_channels
    state = state.clone()
    state[:, first:] *= keep.to(state.device)
    return state


def spread(total: int, most: int) -> Callable[[int], bool]:
    """Return a function that says of a step whether its picture is kept.

    At most ``most`` of the steps 1 to ``total`` are kept, evenly spread, the first and the last
    among them.
    """
    chosen = set(np.unique(np.linspace(1, total, min(total, most)).round().astype(int)).tolist())
    return lambda step: step in chosen


def shown(steps: Sequence[int]) -> tuple[str, ...]:
    """Return the captions of pictures that were taken after these numbers of steps."""
    return tuple(f"step {step}" for step in steps)
