"""A task without data: an automaton learns to bring the mean of its state to a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from medseg_nca.config import RunSettings, Settings
from medseg_nca.inference.task_model import TaskSpec, save_task_model
from medseg_nca.io.atomic import write_json
from medseg_nca.job import Job
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.engines import get_engine
from medseg_nca.tasks.base import (
    Agreement,
    EvaluateRequest,
    Evaluation,
    PredictRequest,
    ResultTable,
    StandardTask,
    Start,
    TrainedModel,
    Training,
    Tree,
)
from medseg_nca.tracking.results import describe_results, write_results
from medseg_nca.tracking.stored_answer import compare_answer, store_answer
from medseg_nca.training.learner import Batch, Learner, Parts, Validation

FORMULA = "middle-1"


class ExampleOptions(Settings):
    """``options`` of the settings: the number to reach, and the side of the grid in cells."""

    level: float = Field(0.25, ge=0, le=1)
    side: int = Field(8, ge=4, le=64)


class Filling(nn.Module):
    """One cell without an image; the middle one is alive at the start."""

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__()
        self.side = ExampleOptions.model_validate(spec.options).side
        self.steps = spec.model.resolved_levels[0].steps
        self.cell = Cell(spec.model.cell, 0, spec.model.dims)
        self.engine = get_engine(spec.model.engine)

    def forward(self, seeds: Sequence[int]) -> Tensor:
        """The mean of channel 0 for each seed of the fire mask, ``(B,)``."""
        dims = self.cell.dims
        state = torch.zeros(len(seeds), self.cell.channels, *(self.side,) * dims)
        state[(slice(None), slice(None), *(self.side // 2,) * dims)] = 1
        fire = Fire(self.cell.settings.fire_rate, tuple(seeds))
        state = roll_out(self.engine, self.cell, state, self.steps, fire)
        return state[:, 0].flatten(1).mean(1)


class FillingLearner(Learner):
    """Brings the mean to the level."""

    def __init__(self, settings: RunSettings, spec: TaskSpec) -> None:
        self.settings, self.spec = settings, spec
        self.level = ExampleOptions.model_validate(spec.options).level

    def build_model(self) -> nn.Module:
        return Filling(self.spec)

    def sample(self, index: int) -> Batch:
        return {"seed": index}

    def loss(self, model: nn.Module, batch: Batch, seed: int) -> tuple[Tensor, Parts]:
        reached = model([int(s) for s in batch["seed"]])
        return (reached - self.level).square().mean(), {}

    def validate(
        self, model: nn.Module, device: torch.device, job: Job | None = None
    ) -> Validation:
        error = error_of(model, self.level, range(4))
        return Validation(-error, {"error": error})

    def save(self, model: nn.Module, folder: Path, validation: Validation | None) -> None:
        metrics = dict(validation.metrics) if validation else {}
        save_task_model(folder, model, self.spec.changed(metrics=metrics))


@torch.inference_mode()
def error_of(model: nn.Module, level: float, seeds: Sequence[int]) -> float:
    """How far the mean is from the level."""
    return float((model(seeds) - level).abs().mean())


@dataclass(frozen=True)
class Reached:
    """One predicted number."""

    seed: int
    value: float

    @property
    def line(self) -> str:
        return f"seed {self.seed}: {self.value:.3f}"

    def to_dict(self) -> Tree:
        return {"seed": self.seed, "value": self.value}


class ExampleTask(StandardTask):
    """Reach a level."""

    name, score, data_use = "example_task", "error", "none"
    options_class = ExampleOptions
    defaults: ClassVar = {"training.iterations": 30, "training.validate_every": 10}

    def build(self, spec: TaskSpec) -> nn.Module:
        return Filling(spec)

    def begin(self, start: Start, job: Job) -> Training:
        settings, decisions = self.decided(start)
        spec = TaskSpec(
            name=settings.name, task=self.name, model=settings.model, seed=settings.seed,
            options=dict(settings.options),
        )  # fmt: skip
        return Training(FillingLearner(settings, spec), settings, decisions)

    def predict(self, request: PredictRequest, job: Job) -> Sequence[Reached]:
        self.check_options(request.options, self.predict_options)
        values = self.answer(request.model, [0, 1])
        found = [Reached(seed, float(value)) for seed, value in enumerate(values)]
        write_json(request.out / "predictions.json", [one.to_dict() for one in found])
        return found

    def evaluate(self, request: EvaluateRequest, job: Job) -> Evaluation:
        model = self.own(request.model)
        level = ExampleOptions.model_validate(model.spec.options).level
        cases = []
        for seed in range(4):
            job.report("evaluating", seed, 4)
            cases.append({"id": f"seed_{seed}", "error": error_of(model.module, level, [seed])})
        mean = float(np.mean([case["error"] for case in cases]))
        tree = describe_results(
            model, data="", data_hash="", split="all", cases=len(cases), score=self.score,
            value=mean, better="lower",
        )  # fmt: skip
        tree |= {"cases": cases, "failed": [], "notes": []}
        write_results(tree, cases, request.out)
        return Evaluation(request.out, tree)

    def table(self, tree: Tree) -> ResultTable:
        rows = tuple((case["id"], f"{case['error']:.3f}") for case in tree["cases"])
        return ResultTable(tree["model"]["name"], ("seed", "error"), rows)

    def published(self, tree: Tree) -> Mapping[str, float | None]:
        return {"error": tree["score"]["value"]}

    def comparable(self, tree: Tree) -> Mapping[str, Any]:
        return {"error": "lower"}

    def case_values(self, tree: Tree, metric: str) -> Mapping[str, Mapping[str, float | None]]:
        return {"all": {case["id"]: case[metric] for case in tree["cases"]}}

    def make_reference(self, model: TrainedModel) -> dict[str, str]:
        return store_answer(self.answer(model, [0, 1, 2]), FORMULA)

    def check_reference(self, model: TrainedModel) -> Agreement:
        return compare_answer(self.answer(model, [0, 1, 2]), FORMULA, model)

    def tags(self, model: TrainedModel) -> Mapping[str, str]:
        return {"level": str(model.spec.options["level"])}

    def answer(self, model: TrainedModel, value: Any) -> Any:
        with torch.inference_mode():
            return self.own(model).module([int(seed) for seed in value]).numpy()


TASK = ExampleTask()
