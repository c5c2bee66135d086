"""The learner of segmentation: a loss on every level, and Dice on the source grid to validate."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medseg_nca import __version__
from medseg_nca.config import RunSettings
from medseg_nca.config.model import ModelSettings, NcaModelSettings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.config.trust import TrustSection
from medseg_nca.datasets.prepared import PreparedCase, PreparedStore
from medseg_nca.datasets.splits import Split
from medseg_nca.datasets.truth import read_labelled
from medseg_nca.errors import ConfigError, DataError, Interrupted
from medseg_nca.inference.bundle import LoadedModel, ModelSpec, save_bundle
from medseg_nca.inference.largest import EVIDENCE, IslandTrial
from medseg_nca.inference.predictor import Predictor
from medseg_nca.inference.spec import strange_labels
from medseg_nca.io.atomic import write_json
from medseg_nca.job import Job
from medseg_nca.losses import create_loss
from medseg_nca.metrics.overlap import dice_by_label
from medseg_nca.models import SegmentationModel
from medseg_nca.models.auto import auto_levels
from medseg_nca.tasks.segmentation.constant import constant_loss, constant_predictions
from medseg_nca.tasks.segmentation.samples import SampleSource
from medseg_nca.tasks.segmentation.settle import settle_prediction
from medseg_nca.tasks.segmentation.trust_fit import fit_trust
from medseg_nca.training.learner import Batch, ConstantAnswer, Validation
from medseg_nca.training.level_learner import LevelLearner
from medseg_nca.training.timing import FEW
from medseg_nca.trust.corruptions import CORRUPTIONS

logger = logging.getLogger(__name__)


class SegmentationLearner(LevelLearner):
    """Learns the label maps of a prepared data set.

    Raises:
        DataError: if the training part of the split is empty.
        ConfigError: if the settings name a label that the data set does not have.
    """

    def __init__(self, settings: RunSettings, store: PreparedStore, split: Split) -> None:
        if not split.train:
            raise DataError("The training part of the split is empty.", hint="Use more cases.")
        self.settings = settings
        self.store = store
        self.split = split
        self.multi_label = store.labels.multi_label
        self.prediction = settings.prediction
        self.trial: IslandTrial | None = None
        self.trust: TrustSection | None = None
        if settings.training.validate_steps and not isinstance(settings.model, NcaModelSettings):
            raise ConfigError(
                f"training.validate_steps: {settings.model.name} is no automaton and has no steps.",
                hint="Leave training.validate_steps out.",
            )
        strange = strange_labels(self.prediction, store.labels)
        if strange is not None:
            raise ConfigError(strange)
        for name in settings.trust.corruptions or ():
            CORRUPTIONS.get(name)  # one that does not exist is told before the training, not after
        training = settings.training
        self.samples = SampleSource(
            store, split.train, self.views(), settings.augment, settings.seed, training.foreground
        )
        self.criterion = create_loss(
            training.loss.name, multi_label=self.multi_label, **training.loss.params
        )

    @property
    def model_settings(self) -> ModelSettings:
        """The model's settings, with the channels and levels that the data set needs."""
        sizes: dict[str, object] = {
            "dims": self.store.plan.dims,
            "in_channels": self.store.plan.in_channels,
            "out_channels": self.store.labels.channels,
        }
        model = self.settings.model
        if isinstance(model, NcaModelSettings) and model.levels == "auto":
            sizes["levels"] = auto_levels(self.store.plan)
        if isinstance(model, NcaModelSettings) and model.focus is not None:
            background = not self.multi_label
            sizes["focus"] = model.focus.changed(background=background)
        return model.changed(**sizes)

    def level_criterion(self, logits: Tensor, target: Tensor) -> Tensor:
        """Implement :meth:`LevelLearner.level_criterion`."""
        loss: Tensor = self.criterion(logits, target)
        return loss

    def best_constant(self, targets: Sequence[Tensor]) -> float:
        """Implement :meth:`LevelLearner.best_constant`."""
        return constant_loss(self.criterion, targets, self.multi_label)

    def constant_answer(self, batches: Sequence[Batch], device: torch.device) -> ConstantAnswer:
        """Return what a constant reaches, as :meth:`Learner.constant_answer`.

        The loss is that of the best constant of each level.
        """
        return ConstantAnswer(self.constant_loss(batches), self._constant_score())

    def _constant_score(self) -> float:
        labels = self.store.labels
        found = constant_predictions(self._validation_cases(), labels)
        scores = [summarise(rows, labels.names).score for rows in found]
        return max((s for s in scores if not math.isnan(s)), default=float("nan"))

    def validate(
        self, model: nn.Module, device: torch.device, job: Job | None = None
    ) -> Validation:
        """Measure the Dice of every label, on the source grid of every validation case.

        With ``training.validate_steps`` the score is the lowest Dice of several numbers of steps.
        """
        factors = self.settings.training.validate_steps
        settings = self._validation_settings()
        if not factors:
            return self._validated(model, device, settings, job)
        return lowest(
            {
                factor: self._validated(model, device, settings.changed(step_factor=factor), job)
                for factor in factors
            }
        )

    def _validated(
        self, model: nn.Module, device: torch.device, settings: PredictionSettings, job: Job | None
    ) -> Validation:
        # Training does not end because an image needs more memory than was thought of.
        predictor = Predictor(self._loaded(model, device), settings, keeps_budget=False)
        rows: dict[str, Mapping[str, float | None]] = {}
        for case in self._validation_cases():
            image, truth = read_labelled(case, self.store.labels.known_values)
            predicted = predictor.predict(image, job).label_map.array[0]
            rows[case.id] = dice_by_label(predicted, truth.array[0], self.store.labels)
        return summarise(rows, self.store.labels.names)

    def _validation_cases(self) -> list[PreparedCase]:
        chosen = self.split.val[: self.settings.training.validate_cases]
        known = {case.id: case for case in self.store.cases}
        return [known[i] for i in chosen if i in known and known[i].label is not None]

    def _validation_settings(self) -> PredictionSettings:
        """Return settings for one plain pass, without flips, passes or removal of islands."""
        return self.prediction.changed(flips=(), uncertainty=0)

    def settle(self, model: nn.Module, device: torch.device, job: Job | None = None) -> None:
        """Decide, as :meth:`Learner.settle`, on flips and islands; then fit the estimate."""
        loaded, cases = self._loaded(model, device), self._validation_cases()
        augment = self.settings.augment
        self.prediction, self.trial = settle_prediction(
            loaded, self.prediction, augment, cases, job
        )
        self.trust = self._fit_trust(model, device, job)

    def _fit_trust(
        self, model: nn.Module, device: torch.device, job: Job | None
    ) -> TrustSection | None:
        """Fit the estimate of quality on the validation cases, as :func:`fit_trust` does."""
        settings, training = self.settings.trust, self.settings.training
        if not settings.fit or training.iterations <= FEW:
            return None
        minutes = training.max_minutes
        known = {case.id: case for case in self.store.cases}
        cases = [known[i] for i in self.split.val if i in known and known[i].label is not None]
        try:
            return fit_trust(
                self._loaded(model, device), cases, settings, seed=self.settings.seed,
                minutes=None if minutes is None else settings.max_share * minutes, job=job,
            )  # fmt: skip
        except Interrupted:
            raise
        except Exception as error:  # a fault of a package, an image: the training has succeeded
            logger.warning("The model gets no estimate of its answers: %s", error)
            return None

    def keep(
        self,
        model: nn.Module,
        device: torch.device,
        folder: Path,
        validation: Validation | None,
        job: Job | None = None,
    ) -> None:
        """Implement :meth:`Learner.keep`; the trial of islands is kept for a later ensemble."""
        super().keep(model, device, folder, validation, job)
        if self.trial is not None:
            write_json(folder.parent / EVIDENCE, self.trial.to_dict())

    def _loaded(self, model: nn.Module, device: torch.device) -> LoadedModel:
        assert isinstance(model, SegmentationModel)
        return LoadedModel(model.eval(), self.spec(None), Path(), device)

    def spec(self, validation: Validation | None) -> ModelSpec:
        """Return the content of ``model.json``."""
        return ModelSpec(
            name=self.settings.name,
            task=self.settings.task,
            model=self.model_settings,
            labels=self.store.labels,
            plan=self.store.plan,
            prediction=self.prediction,
            seed=self.settings.seed,
            training_data=self.store.name,
            training_data_hash=self.store.dataset_hash,
            metrics=dict(validation.metrics) if validation else {},
            package_version=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            trust=self.trust,
        )

    def save(self, model: nn.Module, folder: Path, validation: Validation | None) -> None:
        """Write ``weights.safetensors`` and ``model.json``."""
        assert isinstance(model, SegmentationModel)
        save_bundle(folder, model, self.spec(validation))

    def figures(self, model: nn.Module, device: torch.device, folder: Path) -> list[Path]:
        """Draw the worst and the median validation case, and an animation of the automaton."""
        from medseg_nca.tasks.segmentation.pictures import draw_validation

        cases = self._validation_cases()
        if not cases:
            return []
        return draw_validation(self._loaded(model, device), cases, folder)


def summarise(rows: Mapping[str, Mapping[str, float | None]], names: tuple[str, ...]) -> Validation:
    """Return the mean Dice of each label over the cases, and of these over the labels.

    A Dice that is None is left out.
    """
    metrics: dict[str, float] = {}
    for name in names:
        values = [v for row in rows.values() if (v := row[name]) is not None]
        if values:
            metrics[f"dice_{name}"] = float(np.mean(values))
    if not metrics:
        return Validation(float("nan"), {})
    score = float(np.mean(list(metrics.values())))
    cases = {
        case: float(np.mean([v for v in row.values() if v is not None] or [0.0]))
        for case, row in rows.items()
    }
    return Validation(score, {"dice": score, **metrics}, cases)


def lowest(found: Mapping[float, Validation]) -> Validation:
    """Join validations after several multiples of the trained steps: the lowest score counts.

    Returns:
        The lowest score, of all cases and of each; the metrics of the multiple that has it, and
        "dice_X_steps" for each multiple X.
    """
    worst = min(found.values(), key=lambda one: one.score)
    each = {f"dice_{factor:g}_steps": one.score for factor, one in found.items()}
    cases = {case: min(one.cases[case] for one in found.values()) for case in worst.cases}
    return Validation(worst.score, {**worst.metrics, **each}, cases)
