"""Begin a training of the task."""

from __future__ import annotations

import os

from medseg_nca.errors import ConfigError
from medseg_nca.tasks.base import Start, Task, Training
from medseg_nca.tasks.generation.learner import GrowingLearner
from medseg_nca.tasks.generation.options import GenerationOptions
from medseg_nca.tasks.generation.targets import load_targets


def begin(task: Task, start: Start) -> Training:
    """Read the targets, and return what is learned.

    Raises:
        ConfigError: if the settings do not fit each other, or several processes train.
        ImageError: if a target cannot be used.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "The task generation trains in one process: its pool of states is in that process.",
            hint="Start it without torchrun.",
        )
    settings, decisions = task.decided(start)
    options: GenerationOptions = task.options(settings)
    settings = settings.changed(options=options.model_dump(mode="json"))
    fewest = options.reseed + options.damaged
    if settings.training.batch_size < fewest:
        raise ConfigError(
            f"training.batch_size is {settings.training.batch_size}, but options.reseed and "
            f"options.damaged together take {fewest} samples of a batch.",
            hint=f"Set training.batch_size={fewest + 1}.",
        )
    if options.pool < settings.training.batch_size:
        raise ConfigError(
            f"options.pool is {options.pool}, smaller than training.batch_size, "
            f"{settings.training.batch_size}.",
            hint=f"Set options.pool={8 * settings.training.batch_size}.",
        )
    learner = GrowingLearner(settings, options, load_targets(options))
    return Training(learner, settings, decisions)
