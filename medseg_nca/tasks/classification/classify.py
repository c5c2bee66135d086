"""Use a trained model: from images to probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.job import Job
from medseg_nca.tasks.classification.build import read_parts
from medseg_nca.tasks.classification.likeness import unlike_training
from medseg_nca.tasks.classification.network import ClassifyingNca
from medseg_nca.tasks.classification.options import ClassificationOptions
from medseg_nca.tasks.classification.prepare import Array, Facts, prepare

TASK_NAME = "classification"
# Number of cells in a batch at inference.
_CELLS = 2**17


def batch_size(model: ClassifyingNca, size: Sequence[int]) -> int:
    """Return how many images are computed together."""
    cells = prod(-(-n // s) for n, s in zip(size, model.scale, strict=True))
    return max(_CELLS // cells, 1)


def classify(
    model: ClassifyingNca,
    images: Array,
    device: torch.device,
    temperature: float = 1.0,
    seed: int = 0,
    job: Job | None = None,
) -> NDArray[np.float64]:
    """Return the probabilities ``(n, K)`` of prepared images ``(n, channels, *size)``.

    Raises:
        Interrupted: if the job was cancelled.
    """
    found = [np.zeros((0, model.classes))]
    with torch.inference_mode():
        for batch in torch.split(torch.from_numpy(images), batch_size(model, images.shape[2:])):
            if job is not None:
                job.check()
            chances = model(batch.to(device), seed).probabilities(temperature)
            found.append(chances.double().cpu().numpy())
    together = np.concatenate(found)
    normed: NDArray[np.float64] = together / np.maximum(together.sum(1, keepdims=True), 1e-12)
    return normed


@dataclass(frozen=True)
class Classifier:
    """A loaded model with what it needs to take images as they were read.

    Attributes:
        module: the automaton.
        options, facts: options and facts of the model.
        device: the device that it computes on.
    """

    module: ClassifyingNca
    options: ClassificationOptions
    facts: Facts
    device: torch.device

    @classmethod
    def of(cls, model: TaskModel) -> Classifier:
        """Return the classifier of a model, which is made only once."""
        if "classifier" not in model.cache:
            assert isinstance(model.module, ClassifyingNca)
            options, facts = read_parts(model.spec)
            model.cache["classifier"] = cls(model.module, options, facts, model.device)
        made: Classifier = model.cache["classifier"]
        return made

    def prepare(self, image: NDArray[Any], name: str) -> Array:
        """Bring an image ``(C, *S)`` to the channels, size and intensities that the model sees.

        Raises:
            ImageError: as :func:`medseg_nca.tasks.classification.prepare.prepare` raises it.
        """
        return prepare(image, self.facts, self.options, name)

    def unlike(self, prepared: Array) -> str | None:
        """Return in what a prepared image differs from those of the training; None if in nothing.

        See :func:`medseg_nca.tasks.classification.likeness.unlike_training`.
        """
        return unlike_training(prepared, self.facts, self.options)

    def probabilities(
        self, images: Array, seed: int = 0, job: Job | None = None
    ) -> NDArray[np.float64]:
        """Return the probabilities ``(n, K)`` of prepared images ``(n, channels, *size)``."""
        temperature = self.facts.temperature
        return classify(self.module, images, self.device, temperature, seed, job)

    def answer(self, value: Any) -> NDArray[np.float64]:
        """Return the probabilities ``(B, K)`` of images ``(B, C, *S)`` as they are read from files.

        Raises:
            ImageError: if the value is no such array.
        """
        array = np.asarray(value)
        wanted = f"(B, {self.facts.channels}, and {self.facts.dims} axes)"
        if array.dtype.kind not in "biuf" or array.ndim != self.facts.dims + 2:
            raise ImageError(
                f"The input is an array of {array.dtype} and the shape {array.shape}; images are "
                f"numbers of the shape {wanted}."
            )
        if not np.isfinite(array).all():
            raise ImageError("The input holds NaN or infinity.")
        images = [self.prepare(image, f"image {place}") for place, image in enumerate(array)]
        size = (0, self.facts.channels, *self.facts.size)
        return self.probabilities(np.stack(images) if images else np.zeros(size, np.float32))
