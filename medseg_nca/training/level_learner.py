"""The part of a learner that all tasks with models of several levels have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg_nca.config import RunSettings
from medseg_nca.config.model import ModelSettings, NcaModelSettings
from medseg_nca.errors import ConfigError
from medseg_nca.models import LevelOutput, SegmentationModel, build_model
from medseg_nca.models.views import ViewSpec
from medseg_nca.training.learner import Batch, Learner, Parts
from medseg_nca.training.level_loss import constant_level_loss, level_loss
from medseg_nca.training.level_samples import LevelSamples, join


class LevelLearner(Learner):
    """Learns on every level of a model, from samples that hold each level's view and target.

    Attributes:
        settings: settings of the run.
        samples: the training samples.
    """

    settings: RunSettings
    samples: LevelSamples[Any]

    @property
    @abstractmethod
    def model_settings(self) -> ModelSettings:
        """The model's settings, with the channels and levels that the data ask for."""

    @abstractmethod
    def level_criterion(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of one level, from its logits (float32) and its target."""

    @abstractmethod
    def best_constant(self, targets: Sequence[Tensor]) -> float:
        """Return the lowest loss that a constant has on targets of one level, batch by batch."""

    def views(self) -> Sequence[ViewSpec]:
        """Return what each level of the model looks at.

        Raises:
            ConfigError: if the model shrinks images otherwise than by the mean.
        """
        settings = self.model_settings
        if isinstance(settings, NcaModelSettings) and settings.shrink != "mean":
            raise ConfigError(
                f"model.shrink is {settings.shrink!r}, with which imported models predict; a "
                "training takes the mean of the voxels in a cell.",
                hint="Set model.shrink=mean.",
            )
        # The model is built without memory, because only its views are needed.
        with torch.device("meta"):
            return build_model(settings).views

    def build_model(self) -> SegmentationModel:
        """Implement :meth:`Learner.build_model`."""
        return build_model(self.model_settings)

    def sample(self, index: int) -> Batch:
        """Implement :meth:`Learner.sample`."""
        return self.samples[index]

    def collate(self, samples: Sequence[Batch]) -> Batch:
        """Implement :meth:`Learner.collate`: the views of each level follow each other."""
        return join(samples)

    def loss(self, model: nn.Module, batch: Batch, seed: int) -> tuple[Tensor, Parts]:
        """Return the weighted mean of the levels' losses plus the penalty on overflowing states."""
        persist = getattr(self.settings.model, "persist", None)
        how: dict[str, float] = {}
        if persist is not None:
            how["extra"] = persist.reach(self.progress)
        outputs: list[LevelOutput] = model.training_outputs(batch["views"], seed, **how)  # type: ignore[operator]
        return level_loss(outputs, batch["targets"], self.level_criterion, self.settings.training)

    def constant_loss(self, batches: Sequence[Batch]) -> float:
        """Return the loss of the best constant answer of each level."""
        return constant_level_loss(self.model_settings, batches, self.best_constant)
