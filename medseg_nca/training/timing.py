"""How long an iteration takes, found out on a throw-away copy before the training begins."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from medseg_nca.config import RunSettings
from medseg_nca.errors import NonFiniteStateError
from medseg_nca.nca.fire import mix
from medseg_nca.training.batches import batches
from medseg_nca.training.learner import Learner
from medseg_nca.training.optim import build_optimiser

# Iterations that are timed: three, or as many as fit into a second.
_FEWEST, _MOST, _SECONDS = 3, 20, 1.0


@dataclass(frozen=True)
class IterationTime:
    """Seconds of one iteration.

    Attributes:
        samples: to prepare a batch in one process.
        step: forward, backward and the optimiser.
    """

    samples: float
    step: float

    def seconds(self, workers: int) -> float:
        """Of an iteration, whose batch is prepared beside it if there are workers."""
        if workers:
            return max(self.samples / workers, self.step)
        return self.samples + self.step


@dataclass(frozen=True)
class TimeTable:
    """How long a training takes.

    Attributes:
        text: in a sentence.
        warning: what to do where too few iterations fit, None where they suffice.
    """

    text: str
    warning: str | None = None


def time_iterations(
    learner: Learner, model: nn.Module, settings: RunSettings, fabric: Fabric
) -> IterationTime | None:
    """Run a few iterations on a copy of a model; nothing else changes, the random state neither.

    The first is not counted: it sets up the engine and reads the first cases.

    Returns:
        None if even the first iterations cannot be run; the training will say why.
    """
    training = settings.training
    samples: list[float] = []
    steps: list[float] = []
    with _random_state_kept():
        trial = copy.deepcopy(model).train()
        optimiser = build_optimiser(trial, training)
        source = batches(learner, first=0, last=_MOST + 1, batch_size=training.batch_size)
        for number in range(_MOST + 1):
            started = time.monotonic()
            batch = fabric.to_device(next(source))
            prepared = time.monotonic()
            try:
                with fabric.autocast():
                    loss, _ = learner.loss(trial, batch, mix(settings.seed, number))
            except NonFiniteStateError:
                return None
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            _wait(fabric.device)
            samples.append(prepared - started)
            steps.append(time.monotonic() - prepared)
            if number >= _FEWEST and sum(samples[1:]) + sum(steps[1:]) >= _SECONDS:
                break
    return IterationTime(float(np.mean(samples[1:])), float(np.mean(steps[1:])))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Leave the random generators as they were found."""
    ours, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield
    random.setstate(ours)
    np.random.set_state(numpys)
