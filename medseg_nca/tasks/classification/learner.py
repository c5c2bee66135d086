"""The learner of classification: samples, loss, validation, calibration, and the model's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import Tensor, nn
from torch.nn import functional as F

from medseg_nca.config import RunSettings
from medseg_nca.config.model import NcaModelSettings
from medseg_nca.inference.task_model import TaskModel, TaskSpec, save_task_model, spec_of_run
from medseg_nca.job import Job
from medseg_nca.metrics.classification import balanced_accuracy, log_losses
from medseg_nca.nca.fire import mix
from medseg_nca.tasks.classification.build import build_network
from medseg_nca.tasks.classification.classify import classify
from medseg_nca.tasks.classification.network import ClassifyingNca, answer_loss
from medseg_nca.tasks.classification.options import ClassificationOptions
from medseg_nca.tasks.classification.prepare import Facts
from medseg_nca.tasks.classification.survey import DataPart
from medseg_nca.training.learner import Batch, ConstantAnswer, Learner, Parts, Validation
from medseg_nca.training.level_loss import overflow
from medseg_nca.transforms.intensity_changes import Place, apply, draw_changes
from medseg_nca.transforms.warp import check_flips, draw_warp

_ORDER, _CHANGE = 21, 22
# The smallest and the largest temperature that a calibration may find.
_TEMPERATURES = (0.02, 50.0)


class ClassificationLearner(Learner):
    """Learns the classes of prepared images.

    Args:
        settings: settings of the run, with a value for every "auto" and the model's channels.
        options: options of the task.
        facts: facts of the data.
        train: prepared images to learn from.
        val: prepared images to validate on; there may be none.
        data: name and hash of the data set.

    Raises:
        ConfigError: if an axis is to be flipped that does not exist.
    """

    def __init__(
        self,
        settings: RunSettings,
        options: ClassificationOptions,
        facts: Facts,
        train: DataPart,
        val: DataPart,
        data: tuple[str, str],
    ) -> None:
        check_flips(settings.augment, facts.dims)
        assert isinstance(settings.model, NcaModelSettings)
        self.settings, self.options, self.facts = settings, options, facts
        self.model_settings = settings.model
        self.train, self.val, self.data = train, val, data
        classes = len(facts.classes)
        self.by_class = [np.flatnonzero(train.truth == k) for k in range(classes)]
        counts = np.array([len(places) for places in self.by_class])
        self.weights: Tensor | None = None
        if options.balance == "weights":
            self.weights = torch.tensor(len(train.truth) / (classes * counts), dtype=torch.float32)

    def build_model(self) -> nn.Module:
        """Implement :meth:`Learner.build_model`."""
        return build_network(self.model_settings, self.options, self.facts)

    def place_of(self, index: int) -> int:
        """Return which training image the ``index``-th sample is.

        Every epoch has an order of its own.
        """
        if self.options.balance == "sampling":
            rounds, turn = divmod(index, len(self.by_class))
            kind = int(_order(len(self.by_class), self.settings.seed, rounds)[turn])
            places = self.by_class[kind]
            epoch, position = divmod(rounds, len(places))
            return int(places[_order(len(places), self.settings.seed, epoch, kind)[position]])
        epoch, position = divmod(index, len(self.train.truth))
        return int(_order(len(self.train.truth), self.settings.seed, epoch)[position])

    def sample(self, index: int) -> Batch:
        """Implement :meth:`Learner.sample`: ``image`` ``(channels, *size)`` and ``truth``."""
        place = self.place_of(index)
        image = torch.from_numpy(self.train.images[place])
        rng = np.random.default_rng(mix(self.settings.seed, _CHANGE, index))
        return {"image": self._changed(image, rng), "truth": int(self.train.truth[place])}

    def _changed(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        augment, size = self.settings.augment, self.facts.size
        if not augment.enabled:
            return image
        shift = [rng.uniform(-self.options.shift, self.options.shift) * n for n in size]
        warp = draw_warp(augment, size, shift, (1.0,) * len(size), rng)  # type: ignore[arg-type]
        if (
            any(shift)
            or warp.bend is not None
            or not np.array_equal(warp.matrix, np.eye(len(size)))
        ):
            points = warp.points((0,) * len(size), size, (1.0,) * len(size))
            where = (2 * points / torch.tensor(size) - 1).flip(-1)
            image = F.grid_sample(
                image[None], where[None], padding_mode="border", align_corners=False
            )[0]
        changes = draw_changes(augment, image.flatten(1), rng)
        place = Place((1,) * len(size), (0,) * len(size), size)
        return apply(changes, image, place)

    def loss(self, model: nn.Module, batch: Batch, seed: int) -> tuple[Tensor, Parts]:
        """Return the mean of the losses of all looks, plus the penalty on overflowing states."""
        answers = model.training_answers(batch["image"], seed, self.options.looks)  # type: ignore[operator]
        target, training = batch["truth"], self.settings.training
        weights = None if self.weights is None else self.weights.to(target.device)
        losses = [
            answer_loss(
                answer,
                target,
                self.options.loss,
                self.options.label_smoothing,
                weights,
                self.options.agree,
            )
            for answer in answers
        ]
        total = torch.stack(losses).mean()
        excess = overflow(answers[-1].state, training.overflow_bound)
        with torch.no_grad():
            right = answers[-1].probabilities().argmax(1) == target
        parts = {"loss_class": total.detach(), "overflow": excess.detach()}
        return total + training.overflow * excess, {**parts, "accuracy": right.float().mean()}

    def constant_answer(self, batches: Sequence[Batch], device: torch.device) -> ConstantAnswer:
        """Implement :meth:`Learner.constant_answer`.

        The best constant answers every image with the shares of the classes among the samples.
        """
        counts = np.array([len(places) for places in self.by_class], dtype=np.float64)
        shares = counts / counts.sum()
        if self.options.balance != "none":
            shares = np.full(len(counts), 1 / len(counts))
        smoothing = self.options.label_smoothing
        if self.options.loss == "l2":
            loss = 0.5 * (1 - smoothing) ** 2 * float(1 - (shares**2).sum())
        else:
            mixed = (1 - smoothing) * shares + smoothing / len(shares)
            loss = float(-(mixed * np.log(mixed)).sum())
        seen = len(np.unique(self.val.truth))
        return ConstantAnswer(loss, 1 / seen if seen > 1 else float("nan"))

    def validate(
        self, model: nn.Module, device: torch.device, job: Job | None = None
    ) -> Validation:
        """Measure balanced accuracy, and the probability that each image gives to its own class."""
        images, truth, ids = self._validated()
        if not len(truth):
            return Validation(float("nan"), {})
        chances = self._classified(model, device, images, job)
        found = chances.argmax(1)
        score = balanced_accuracy(truth, found, len(self.facts.classes))
        metrics = {
            "balanced_accuracy": score,
            "accuracy": float((found == truth).mean()),
            "log_loss": float(log_losses(truth, chances).mean()),
        }
        cases = {name: float(row[k]) for name, row, k in zip(ids, chances, truth, strict=True)}
        return Validation(score, metrics, cases)

    def _validated(self) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[str, ...]]:
        most = self.settings.training.validate_cases
        return self.val.images[:most], self.val.truth[:most], self.val.ids[:most]

    def _classified(
        self, model: nn.Module, device: torch.device, images: NDArray[np.float32],
        job: Job | None = None,
    ) -> NDArray[np.float64]:  # fmt: skip
        assert isinstance(model, ClassifyingNca)
        seed = self.settings.prediction.seed
        return classify(model, images, device, self.facts.temperature, seed, job)

    def settle(self, model: nn.Module, device: torch.device, job: Job | None = None) -> None:
        """Find the temperature that makes the probabilities of the validation images true."""
        images, truth, _ = self._validated()
        if not self.options.calibrate or not len(truth):
            return
        assert isinstance(model, ClassifyingNca)
        seed = self.settings.prediction.seed
        chances = classify(model, images, device, 1.0, seed, job).clip(1e-12)
        classes = chances.shape[1]
        # If every answer is right, the best temperature would make the model certain. But after n
        # right answers the next is wrong with a probability of 1 / (n + 2) (Laplace's rule of
        # succession). Platt (1999) takes that probability into the targets.
        perfect = bool((chances.argmax(1) == truth).all())
        doubt = 1 / (len(truth) + 2) if perfect else 0.0
        wanted = np.full_like(chances, doubt / (classes - 1))
        wanted[np.arange(len(truth)), truth] = 1 - doubt

        def loss(log_temperature: float) -> float:
            found = log_softmax(np.log(chances) / np.exp(log_temperature), axis=1)
            return float(-(wanted * found).sum(1).mean())

        bounds = tuple(float(np.log(t)) for t in _TEMPERATURES)
        best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3})
        self.facts = self.facts.changed(temperature=round(float(np.exp(best.x)), 4))

    def spec(self, validation: Validation | None) -> TaskSpec:
        """Return the content of ``model.json``."""
        return spec_of_run(
            self.settings,
            self.model_settings,
            options=self.options,
            facts=self.facts.model_dump(mode="json"),
            metrics=validation.metrics if validation else None,
            data=self.data,
        )

    def save(self, model: nn.Module, folder: Path, validation: Validation | None) -> None:
        """Write ``weights.safetensors`` and ``model.json``."""
        save_task_model(folder, model, self.spec(validation))

    def figures(self, model: nn.Module, device: torch.device, folder: Path) -> list[Path]:
        """Draw the automaton's votes on a validation image that is among the least sure."""
        from medseg_nca.tasks.classification.pictures import draw_votes

        images, truth, ids = self._validated()
        if not len(truth):
            return []
        chances = self._classified(model, device, images)
        sure = chances[np.arange(len(truth)), truth]
        place = int(np.argsort(sure, kind="stable")[len(sure) // 10])
        loaded = TaskModel(model, self.spec(None), folder, device)
        title = f"{ids[place]}: {self.facts.classes[truth[place]]}"
        return [
            draw_votes(loaded, images[place], folder / name, title)
            for name in ("votes.gif", "votes.png")
        ]


def _order(count: int, seed: int, *numbers: int) -> NDArray[np.int64]:
    return np.random.default_rng(mix(seed, _ORDER, *numbers)).permutation(count)
