"""Tiny settings, trainings and models of the task generation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image

from medseg_nca.config import RunSettings
from medseg_nca.config.loading import load_settings
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.job import Job
from medseg_nca.tasks.base import Start
from medseg_nca.tasks.generation import TASK
from medseg_nca.tasks.generation.automaton import GrowingNca
from medseg_nca.tasks.generation.learner import GrowingLearner
from medseg_nca.training.loop import Trainer

TINY = (
    "options.size=8", "options.grid=10", "options.pool=8", "options.damaged=1",
    "training.iterations=6", "training.batch_size=3", "training.warmup=2", "training.ema=null",
    "model.levels.0.steps=[3,5]", "model.cell.update.hidden=8", "model.cell.channels=8",
    "training.validate_every=6", "training.checkpoint_every=2", "training.log_every=1",
    "tracking.enabled=false", "device=cpu",
)  # fmt: skip


def tiny(*overrides: str) -> RunSettings:
    """Settings of a training of a second."""
    return TASK.checked(load_settings("growing_emblem", (*TINY, *overrides)))


def learner_of(out: Path, *overrides: str) -> GrowingLearner:
    """What such a training learns."""
    training = TASK.begin(Start(None, out, tiny(*overrides), torch.device("cpu")), Job())
    assert isinstance(training.learner, GrowingLearner)
    return training.learner


def trainer_of(out: Path, *overrides: str, job: Job | None = None, **options: Any) -> Trainer:
    """Such a training, not begun."""
    learner = learner_of(out, *overrides)
    fabric = Fabric(accelerator="cpu", devices=1)
    return Trainer(learner, learner.settings, out, fabric, job=job, **options)


def model_of(out: Path, *overrides: str) -> TaskModel:
    """A model whose rule is random, loaded from its files."""
    learner = learner_of(out, *overrides)
    torch.manual_seed(0)
    module = learner.build_model()
    torch.nn.init.normal_(module.cell.update.output.weight, std=0.05)
    learner.save(module, out / "model", None)
    return TASK.load(out / "model", "cpu")


def network(model: TaskModel) -> GrowingNca:
    """Its network."""
    assert isinstance(model.module, GrowingNca)
    return model.module


def write_png(path: Path, array: np.ndarray[Any, Any]) -> Path:
    """Write ``(row, column, bands)`` of 8 bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)
    return path


def square(size: int, colour: tuple[int, ...] = (200, 100, 50)) -> np.ndarray[Any, Any]:
    """A square in the middle of a transparent picture."""
    picture = np.zeros((size, size, 4))
    picture[size // 4 : -(size // 4), size // 4 : -(size // 4)] = (*colour, 255)
    return picture
