"""A second task, which grows an image from a seed: the loop must not know what it trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from medseg_nca.config import RunSettings
from medseg_nca.config.loading import load_settings
from medseg_nca.config.model import CellSettings, UpdateSettings
from medseg_nca.job import Job
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.engines import get_engine
from medseg_nca.training.learner import Batch, ConstantAnswer, Learner, Parts, Validation
from medseg_nca.training.loop import Trainer

SIZE = 8


class GrowingNca(nn.Module):
    """One cell of six channels without an image; the first is what is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = Cell(CellSettings(channels=6, update=UpdateSettings(hidden=16)), 0, 2)

    def forward(self, state: Tensor, seed: int) -> Tensor:
        fire = Fire.for_batch(0.5, seed, state.shape[0])
        return roll_out(get_engine(), self.cell, state, 6, fire)


class Growing(Learner):
    """Grow a square from a single living cell."""

    def __init__(self, poison: int | None = None) -> None:
        self.poison = poison
        self.poisoned = 0
        self.target = torch.zeros(1, SIZE, SIZE)
        self.target[:, 2:6, 2:6] = 1

    def build_model(self) -> nn.Module:
        return GrowingNca()

    def sample(self, index: int) -> Batch:
        state = torch.zeros(6, SIZE, SIZE)
        state[:, SIZE // 2, SIZE // 2] = 1
        return {"state": state, "target": self.target, "index": index}

    def loss(self, model: nn.Module, batch: Batch, seed: int) -> tuple[Tensor, Parts]:
        seen = model(batch["state"], seed)[:, :1]
        error = (seen - batch["target"]).square().mean()
        if self.poison is not None and int(batch["index"].max()) == self.poison:
            self.poisoned += 1
            error = error * float("nan")
        return error, {"error": error.detach()}

    def constant_answer(self, batches: Sequence[Batch], device: torch.device) -> ConstantAnswer:
        """A quarter of the cells is 1: the best constant is 1/4, its mean squared error 3/16."""
        return ConstantAnswer(loss=3 / 16, score=-3 / 16)

    def validate(
        self, model: nn.Module, device: torch.device, job: Job | None = None
    ) -> Validation:
        batch = self.sample(0)
        with torch.no_grad():
            seen = model(batch["state"][None].to(device), 0)[:, :1].cpu()
        error = float((seen - self.target).square().mean())
        return Validation(-error, {"error": error})

    def save(self, model: nn.Module, folder: Path, validation: Validation | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), folder / "model.pt")


def settings_of(**training: Any) -> RunSettings:
    defaults = {
        "iterations": 40, "batch_size": 2, "lr": 0.01, "warmup": 0, "validate_every": 10,
        "checkpoint_every": 10, "log_every": 5, "ema": 0.9,
    }  # fmt: skip
    settings = load_settings(None)
    changed = settings.training.model_copy(update={**defaults, **training})
    return settings.model_copy(update={"training": changed})


def trainer_of(run: Path, task: Growing | None = None, **training: Any) -> Trainer:
    fabric = Fabric(accelerator="cpu", devices=1)
    return Trainer(task or Growing(), settings_of(**training), run, fabric)


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.evaluated_model.parameters()])
