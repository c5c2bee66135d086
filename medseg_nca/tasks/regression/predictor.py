"""The one predictor of the task: from a volume to real values on the same grid.

Validation, ``evaluate``, ``predict`` and serving all use it, so they cannot disagree. Tiles and the
memory budget are those of :class:`medseg_nca.models.SegmentationModel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ConfigError, MemoryBudgetError
from medseg_nca.inference.accepted import (
    check_flip_axes,
    compare_with_training,
    flipped_back,
    tells_memory,
)
from medseg_nca.inference.memory import Footprint
from medseg_nca.inference.predictor import flip_sets, stream_padded
from medseg_nca.inference.step_factor import scaled_steps
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.io.peek import Extent
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.models import RunOptions, SegmentationModel
from medseg_nca.models.base import Sink
from medseg_nca.tasks.regression.options import RegressionFacts
from medseg_nca.tasks.regression.values import restored_values
from medseg_nca.transforms.grid import Grid, planned_grids
from medseg_nca.transforms.likeness import Likeness, compare
from medseg_nca.transforms.prepare import check_axes, prepare, restore

Floats = NDArray[np.float32]
_FLOAT = 4
# As in medseg_nca.inference.memory: a reader's copies, and a percentile search.
_COPIES_READ, _SEARCH = 3, 5
# Prediction settings that have a meaning for label maps only.
_OF_LABELS = ("probabilities", "largest")


@dataclass(frozen=True)
class RealPrediction:
    """The answer to one volume; everything is on the grid of that volume.

    Attributes:
        values: the values ``(K, *shape)`` float32, in the targets' unit.
        likeness: how the image compares with the images of the training.
        uncertainty: ``(K, *shape)`` float32, the standard deviation over the stochastic passes, in
            the targets' unit; None unless the settings ask for it.
    """

    values: Volume
    likeness: Likeness
    uncertainty: Volume | None = None


class RealPredictor:
    """Predicts volumes with one model.

    Args:
        model: a model of the task.
        facts: facts of the model.
        settings: prediction settings that replace those that the model carries.
        keeps_budget: if true, an image that needs more memory than ``settings.memory_budget_gb``
            is refused; if false, it is predicted with the least memory possible.

    Raises:
        ConfigError: if the settings do not fit the model.
    """

    def __init__(
        self,
        model: TaskModel,
        facts: RegressionFacts,
        settings: PredictionSettings | None = None,
        *,
        keeps_budget: bool = True,
    ) -> None:
        assert isinstance(model.module, SegmentationModel)
        self.model, self.module, self.facts = model, model.module, facts
        self.settings = settings or facts.prediction
        self.keeps_budget = keeps_budget
        check_prediction(self.settings, facts.plan.dims)
        scaled_steps(self.module, self.settings.step_factor)
        if self.settings.uncertainty and not self.module.stochastic:
            raise ConfigError(
                f"Model {model.spec.name!r} has no fire mask, so that its passes would all be the "
                "same.",
                hint="Leave prediction.uncertainty out.",
            )

    def check_memory(self, extent: Extent, name: str) -> None:
        """Check, before an image is read, that the memory budget is large enough for it.

        Raises:
            MemoryBudgetError: if the budget is too small; the message says how much memory the
                image needs, and which option to change.
        """
        if tells_memory(extent, self.facts.plan) and self.keeps_budget:
            self._refuse(self._footprint(extent, name), extent, name)

    @torch.inference_mode()
    def predict(self, volume: Volume, job: Job | None = None) -> RealPrediction:
        """Predict one volume ``(C, *shape)``.

        Args:
            volume: the image.
            job: gets the progress, in the phase :data:`medseg_nca.job.ONE_CASE`, and is asked
                before every pass, tile and batch of steps whether to go on.

        Raises:
            ImageError: if the volume does not fit the model or cannot be used, or if it is unlike
                the images of the training and the settings refuse such volumes.
            MemoryBudgetError: if the memory budget is too small.
            Interrupted: if the job was cancelled.
        """
        job = job or Job()
        job.check()
        check_axes(volume, self.facts.plan)
        likeness = compare_with_training(volume, self.facts.plan, self.settings)
        extent = Extent.of(volume)
        found = self._footprint(extent, volume.name)
        left = found.left(self.settings.memory_budget_gb * 1e9)
        if self.keeps_budget:
            self._refuse(found, extent, volume.name)
        else:
            left = max(left, found.model or 0.0)
        prepared = prepare(volume, likeness.plan)
        image = torch.from_numpy(prepared.image).unsqueeze(0).to(self.model.device)
        trace = prepared.trace
        del prepared
        mean, spread = self._passes(image, left / 1e9, job)
        del image
        values = volume.with_array(restore(mean, trace))
        if spread is None:
            return RealPrediction(values, likeness)
        return RealPrediction(values, likeness, volume.with_array(restore(spread, trace)))

    def _passes(self, image: Tensor, memory_gb: float, job: Job) -> tuple[Floats, Floats | None]:
        """Return mean and standard deviation ``(K, *S)`` over the passes, by Welford (1962)."""
        settings = self.settings
        count, sets = max(settings.uncertainty, 1), list(flip_sets(settings.flip_axes))
        shape = (self.module.out_channels, *image.shape[2:])
        mean = squares = np.zeros(0, np.float32)
        for number in range(count):
            sums = np.zeros(shape, np.float32)
            for turn, axes in enumerate(sets):
                options = RunOptions(
                    seed=settings.seed + number,
                    fire="sample" if settings.uncertainty else settings.fire,
                    memory_gb=memory_gb,
                    precision=settings.precision,
                    job=job.part(number * len(sets) + turn, count * len(sets)),
                    steps=scaled_steps(self.module, settings.step_factor),
                )
                flipped = image.flip([axis + 2 for axis in axes]) if axes else image
                sink = adding(sums, axes, 1 / len(sets))
                stream_padded(self.module, flipped, self.facts.plan.crop_size, options, sink)
            values = restored_values(sums, self.facts)
            if number == 0:
                mean = values
                continue
            step = values - mean
            mean += step / (number + 1)
            step *= values - mean
            squares = step if number == 1 else squares + step
        if count == 1:
            return mean, np.zeros_like(mean) if settings.uncertainty else None
        return mean, np.sqrt(squares / (count - 1))

    def _footprint(self, extent: Extent, name: str) -> Footprint:
        """Return the memory that the prediction of an image of this extent needs."""
        plan, settings, outputs = self.facts.plan, self.settings, self.module.out_channels
        shape, spaced = extent.shape, False
        if extent.affine is not None:
            rows = tuple(tuple(float(v) for v in row) for row in extent.affine)
            grid = Grid(extent.shape, rows)
            likeness = compare(grid, plan, match=settings.match_spacing)
            oriented, target = planned_grids(grid, likeness.plan, name)
            shape, spaced = target.shape, target != oriented
        voxels, cells = prod(extent.shape), prod(shape)
        channels = 1 if plan.colour == "grey" else extent.channels
        padded = [max(n, s) for n, s in zip(shape, plan.crop_size, strict=True)]
        copies = (padded != list(shape)) + bool(settings.flip_axes)
        image = channels * cells * _FLOAT
        before = image if spaced or plan.colour == "grey" else 0
        source = float(extent.channels * voxels * extent.item_bytes)
        results = 5 if settings.uncertainty else 1
        kept = results * outputs * cells * _FLOAT
        steps = scaled_steps(self.module, settings.step_factor)
        options = RunOptions(precision=settings.precision, steps=steps)
        return Footprint(
            source=source,
            reading=_COPIES_READ * source,
            preparing=float(before + image + _SEARCH * cells),
            held=float(image + copies * channels * prod(padded) * _FLOAT + kept),
            model=self.module.least_bytes(padded, options),
            ending=float(kept + 3 * outputs * voxels * _FLOAT * (2 if settings.uncertainty else 1)),
        )

    def _refuse(self, found: Footprint, extent: Extent, name: str) -> None:
        budget = self.settings.memory_budget_gb
        if found.least <= budget * 1e9:
            return
        size, enough = " x ".join(map(str, extent.shape)), -(-found.least // 1e7) / 100
        raise MemoryBudgetError(
            f"{name}: an image of {size} voxels needs at least {enough:g} GB of memory; the budget "
            f"is {budget:g} GB.",
            hint=f"Set prediction.memory_budget_gb to {enough:g} or more, or use "
            "prediction.precision=bfloat16, no flips and no uncertainty.",
        )


def adding(sums: Floats, axes: Sequence[int], weight: float) -> Sink:
    """Return a sink that flips logits of a flipped image back and adds them to sums."""

    def sink(window: tuple[slice, ...], logits: Tensor) -> None:
        place = flipped_back(window, axes, sums.shape[1:])
        part = logits[0].flip([a + 1 for a in axes]) if axes else logits[0]
        sums[(slice(None), *place)] += weight * part.float().cpu().numpy()

    return sink


def check_prediction(settings: PredictionSettings, dims: int) -> None:
    """Refuse prediction settings that have no meaning for real values.

    Raises:
        ConfigError: if there is such a setting; the message names it.
    """
    check_flip_axes(settings, dims)
    for name in _OF_LABELS:
        if getattr(settings, name) not in ("auto", False, ()):
            raise ConfigError(
                f"prediction.{name} is for label maps; the task regression has none.",
                hint="Leave it out.",
            )
