"""Measure how long an iteration takes, on a copy of the model, before the training begins."""

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

# Trainings of at most this many iterations only show that all parts fit: they are not timed before
# they start, and their models do not learn to estimate their answers.
FEW = 20
# At least _FEWEST iterations are timed, then more until _SECONDS have passed, at most _MOST.
_FEWEST, _MOST, _SECONDS = 3, 20, 1.0


@dataclass(frozen=True)
class IterationTime:
    """The time of one iteration, in seconds.

    Attributes:
        samples: time to prepare a batch in one process.
        step: time of the forward and backward pass and the optimiser.
    """

    samples: float
    step: float

    def seconds(self, workers: int) -> float:
        """Return the seconds of an iteration; workers prepare the batches at the same time."""
        if workers:
            return max(self.samples / workers, self.step)
        return self.samples + self.step


@dataclass(frozen=True)
class TimeTable:
    """How long a training takes, in words.

    Attributes:
        text: a sentence for the log.
        warning: what to do if too few iterations fit into the time; None if enough fit.
    """

    text: str
    warning: str | None = None


def time_iterations(
    learner: Learner, model: nn.Module, settings: RunSettings, fabric: Fabric
) -> IterationTime | None:
    """Run a few iterations on a copy of a model; the model and the random state do not change.

    The first iteration is not counted, because it sets up the engine and reads the first cases.

    Returns:
        The mean times; None if the iterations fail, for which the training will give the reason.
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
    """Restore the state of the random generators after the block."""
    ours, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield
    random.setstate(ours)
    np.random.set_state(numpys)
