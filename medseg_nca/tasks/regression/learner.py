"""The learner of regression: a loss on every level, and RMSE on the source grid to validate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medseg_nca.config import PreprocessPlan, RunSettings
from medseg_nca.config.model import ModelSettings, NcaModelSettings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.datasets.pairs import Pair
from medseg_nca.datasets.splits import Split
from medseg_nca.errors import DataError
from medseg_nca.inference.task_model import TaskModel, TaskSpec, save_task_model, spec_of_run
from medseg_nca.job import Job
from medseg_nca.metrics.regression import Values, constant_metrics, real_metrics, skill
from medseg_nca.models.auto import auto_levels
from medseg_nca.tasks.regression.losses import constant_loss, masked_loss
from medseg_nca.tasks.regression.options import RegressionFacts, RegressionOptions
from medseg_nca.tasks.regression.pairs import PreparedPairs, read_pair
from medseg_nca.tasks.regression.predictor import RealPredictor
from medseg_nca.tasks.regression.samples import PairSamples
from medseg_nca.training.learner import Batch, ConstantAnswer, Validation
from medseg_nca.training.level_learner import LevelLearner

Rows = Mapping[str, Sequence[Values]]


@dataclass(frozen=True)
class LearnedData:
    """The data that a training learns from.

    Attributes:
        name, hash: name and hash of the data set.
        pairs: the pairs by id.
        split: the split of the pairs.
        facts: facts of the training part.
        folder: folder of the prepared arrays.
    """

    name: str
    hash: str
    pairs: Mapping[str, Pair]
    split: Split
    facts: RegressionFacts
    folder: Path


def fitted_model(model: ModelSettings, plan: PreprocessPlan, outputs: int) -> ModelSettings:
    """Return the model's settings with the channels and levels that the data ask for.

    Focus, which runs a level only where the level before found a label, is left out, because there
    are no labels.
    """
    sizes: dict[str, object] = {
        "dims": plan.dims, "in_channels": plan.in_channels, "out_channels": outputs,
    }  # fmt: skip
    if isinstance(model, NcaModelSettings):
        sizes["focus"] = None
        if model.levels == "auto":
            sizes["levels"] = auto_levels(plan)
    return model.changed(**sizes)


class RegressionLearner(LevelLearner):
    """Learns the targets of pairs.

    Raises:
        DataError: if the training part of the split is empty.
        ConfigError: if the model does not fit the data.
    """

    def __init__(
        self, settings: RunSettings, options: RegressionOptions, data: LearnedData
    ) -> None:
        if not data.split.train:
            raise DataError("The training part of the split is empty.", hint="Use more cases.")
        self.settings, self.options, self.data = settings, options, data
        facts = data.facts
        prepared = PreparedPairs(data.folder, data.pairs, facts, data.hash)
        self.samples = PairSamples(
            prepared, data.split.train, self.views(), settings.augment, settings.seed,
            settings.training.foreground,
        )  # fmt: skip

    @property
    def model_settings(self) -> ModelSettings:
        """The model's settings, with the channels and levels that the data ask for."""
        facts = self.data.facts
        return fitted_model(self.settings.model, facts.plan, len(facts.targets))

    def level_criterion(self, logits: Tensor, target: Tensor) -> Tensor:
        """Implement :meth:`LevelLearner.level_criterion`."""
        return masked_loss(logits, target, self.options)

    def best_constant(self, targets: Sequence[Tensor]) -> float:
        """Implement :meth:`LevelLearner.best_constant`."""
        return constant_loss(targets, self.options)

    def constant_answer(self, batches: Sequence[Batch], device: torch.device) -> ConstantAnswer:
        """Implement :meth:`Learner.constant_answer`; each level has its own best constant."""
        loss = self.constant_loss(batches)
        return ConstantAnswer(loss, 0.0 if self._validation_pairs() else float("nan"))

    @cached_property
    def _constant_errors(self) -> list[float]:
        """The mean RMSE of the constant predictor on the validation part, for each target."""
        facts = self.data.facts
        rows = [
            [
                constant_metrics(known.average, channel)["rmse"] or 0.0
                for known, channel in zip(
                    facts.targets, read_pair(pair, facts.unknown).target, strict=True
                )
            ]
            for pair in self._validation_pairs()
        ]
        return [float(error) for error in np.mean(rows, axis=0)]

    def validate(
        self, model: nn.Module, device: torch.device, job: Job | None = None
    ) -> Validation:
        """Measure RMSE and MAE on the source grid of every validation case."""
        job, facts = job or Job(), self.data.facts
        settings = facts.prediction.changed(flips=(), uncertainty=0)
        # Training does not end because an image needs more memory than was thought of.
        predictor = RealPredictor(self._loaded(model, device), facts, settings, keeps_budget=False)
        rows: dict[str, list[Values]] = {}
        for pair in self._validation_pairs():
            job.check()
            read = read_pair(pair, facts.unknown)
            found = predictor.predict(read.image, job).values.array
            rows[pair.id] = [
                real_metrics(*channel) for channel in zip(found, read.target, strict=True)
            ]
        return self._summary(rows)

    def _summary(self, rows: Rows) -> Validation:
        """Return the metrics; the score is the skill: 1 is perfect, a constant predictor has 0."""
        targets = self.data.facts.targets
        if not rows:
            return Validation(float("nan"), {})
        metrics: dict[str, float] = {}
        for metric in ("rmse", "mae"):
            for index, target in enumerate(targets):
                name = metric if len(targets) == 1 else f"{metric}_{target.name}"
                known = [v for row in rows.values() if (v := row[index][metric]) is not None]
                metrics[name] = float(np.mean(known))
        cases = {
            name: skill([values["rmse"] or 0.0 for values in row], self._constant_errors)
            for name, row in rows.items()
        }
        score = float(np.mean(list(cases.values())))
        return Validation(score, {"skill": score, **metrics}, cases)

    def _validation_pairs(self) -> list[Pair]:
        chosen = self.data.split.val[: self.settings.training.validate_cases]
        return [self.data.pairs[name] for name in chosen if name in self.data.pairs]

    def _loaded(self, model: nn.Module, device: torch.device) -> TaskModel:
        return TaskModel(model.eval(), self.spec(None), Path(), device)

    def spec(self, validation: Validation | None) -> TaskSpec:
        """Return the content of ``model.json``."""
        return spec_of_run(
            self.settings,
            self.model_settings,
            options=self.options,
            facts=self.data.facts.model_dump(
                mode="json", exclude={"prediction": set(PredictionSettings.OF_THE_MACHINE)}
            ),
            metrics=validation.metrics if validation else None,
            data=(self.data.name, self.data.hash),
        )

    def save(self, model: nn.Module, folder: Path, validation: Validation | None) -> None:
        """Write ``weights.safetensors`` and ``model.json``."""
        save_task_model(folder, model, self.spec(validation))

    def figures(self, model: nn.Module, device: torch.device, folder: Path) -> list[Path]:
        """Draw the worst and the median validation case: image, truth, prediction and error."""
        from medseg_nca.tasks.regression.pictures import draw_validation

        predictor = RealPredictor(self._loaded(model, device), self.data.facts, keeps_budget=False)
        return draw_validation(predictor, self._validation_pairs(), folder)
