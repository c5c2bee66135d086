"""One growth at inference, watched step by step."""

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
    """Keeps what is seen, of some steps, and the loss of each.

    Args:
        keep: whether the picture after so many steps is kept.
        wanted: the target ``(V, *grid)``; without it there are no losses.

    Attributes:
        frames: ``(V, *grid)`` each.
        numbers: the steps that they are after.
        losses: mean squared errors, one for each step.
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
        """Look at ``(1, V, *grid)`` after a step."""
        if self.wanted is not None:
            wanted = self.wanted.to(seen.device)
            self.losses.append(float((seen[0].float() - wanted).square().mean()))
        if self.keep(step):
            self.frames.append(seen[0].float().cpu().numpy().copy())
            self.numbers.append(step)


def facts_of(model: TaskModel) -> GenerationFacts:
    """What a model of this task knows of its targets.

    Raises:
        ConfigError: naming what is wrong; a model that was read from its files has no such fault.
    """
    return read_parts(model.spec)[1]


def module_of(model: TaskModel) -> GrowingNca:
    """The network of a model of this task."""
    return cast(GrowingNca, model.module)


def wanted_of(model: TaskModel, target: int) -> Tensor:
    """A target of a model, ``(V, *grid)`` on the CPU."""
    return module_of(model).targets[target].cpu()


@torch.inference_mode()
def grow(
    model: TaskModel, state: Tensor, steps: int, seed: int, first: int = 0,
    film: Film | None = None, job: Job | None = None,
) -> tuple[Tensor, int]:  # fmt: skip
    """Take a state through some steps.

    Args:
        model: of the task.
        state: ``(1, C, *grid)``.
        steps: how many.
        seed: of the fire mask.
        first: how many steps were taken before.
        film: sees every step.
        job: looked at in every step.

    Returns:
        The new state, and how many steps were taken; fewer where the automaton stopped by itself.

    Raises:
        NonFiniteStateError: if a value becomes NaN or infinite; it names the step.
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
    """A state ``(1, C, *grid)`` without the cells that do not stay; its genome is kept."""
    first = module_of(model).shape.genome_channels
    state = state.clone()
    state[:, first:] *= keep.to(state.device)
    return state


def spread(total: int, most: int) -> Callable[[int], bool]:
    """Keep at most so many of the steps 1 to ``total``, evenly, the first and last among them."""
    chosen = set(np.unique(np.linspace(1, total, min(total, most)).round().astype(int)).tolist())
    return lambda step: step in chosen


def shown(steps: Sequence[int]) -> tuple[str, ...]:
    """Captions of pictures."""
    return tuple(f"step {step}" for step in steps)
