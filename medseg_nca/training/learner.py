"""The interface between the training loop and what a task wants to learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from medseg_nca.job import Job

Batch = dict[str, Any]
Parts = dict[str, Tensor]


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    Attributes:
        score: number by which the best checkpoint and early stopping are decided; higher is
            better. It is NaN if there was nothing to measure; the last weights are then kept.
        metrics: numbers for the log, by name; the first is the main one.
        cases: score of each case, by the id of the case.
    """

    score: float
    metrics: Mapping[str, float]
    cases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ConstantAnswer:
    """What the best constant answer reaches: an answer that is the same for every input.

    Attributes:
        loss: its mean training loss; NaN if it is not known.
        score: its score in a validation; NaN if it is not known.
    """

    loss: float = float("nan")
    score: float = float("nan")


class Learner(ABC):
    """All that a task defines about a training: samples, loss, validation, figures, model files.

    Everything random is derived from the numbers that the loop hands in, never from a global
    generator. So a resumed run computes what a run without interruption would have computed.

    Attributes:
        progress: share of the training that is done, 0 to 1, which the loop tells before each
            loss; 1 where no loop does.
    """

    progress: float = 1.0

    @abstractmethod
    def build_model(self) -> nn.Module:
        """Return a new model that fits the data; the loop has seeded torch's generator."""

    @abstractmethod
    def sample(self, index: int) -> Batch:
        """Return the ``index``-th training sample of the run, without the batch axis.

        The sample depends only on the index, not on the samples that were drawn before.
        """

    def collate(self, samples: Sequence[Batch]) -> Batch:
        """Join samples to a batch; by default every tensor gets a batch axis in front."""
        batch: Batch = default_collate(list(samples))
        return batch

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, seed: int) -> tuple[Tensor, Parts]:
        """Return the loss of a batch, and numbers for the log (detached).

        It runs the model and compares the outputs with the targets.

        Args:
            model: the model in training mode.
            batch: what :meth:`collate` returned, on the device of the training.
            seed: decides everything random in the step, such as the fire mask.
        """

    @abstractmethod
    def validate(
        self, model: nn.Module, device: torch.device, job: Job | None = None
    ) -> Validation:
        """Measure a model on the validation part of the split.

        Args:
            model: the model in evaluation mode.
            device: device of the training.
            job: asked at least before every case whether to go on.

        Raises:
            Interrupted: if the job was cancelled.
        """

    def constant_answer(self, batches: Sequence[Batch], device: torch.device) -> ConstantAnswer:
        """Return what the best constant answer reaches; a model that learned must be better.

        Args:
            batches: some batches of the training, on the device.
            device: device of the training.

        Returns:
            Values that the task does not know are NaN, and the loop does not judge by them.
        """
        return ConstantAnswer()

    def settle(  # noqa: B027
        self, model: nn.Module, device: torch.device, job: Job | None = None
    ) -> None:
        """Decide on validation data how the final model is used, before the model is saved again.

        Args:
            model: the model in evaluation mode.
            device: device of the training.
            job: asked at least before every case whether to go on.

        Raises:
            Interrupted: if the job was cancelled; nothing is then decided.
        """

    def keep(
        self,
        model: nn.Module,
        device: torch.device,
        folder: Path,
        validation: Validation | None,
        job: Job | None = None,
    ) -> None:
        """Save the final model, decide how it is used (:meth:`settle`), and save it again.

        The model is saved first, because the decision may fail or be cancelled.

        Raises:
            Interrupted: if the job was cancelled; the model is saved, and a resumed training
                decides how it is used.
        """
        self.save(model, folder, validation)
        self.settle(model, device, job)
        self.save(model, folder, validation)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs besides the model, for example a pool of states.

        It consists of tensors, numbers, texts, lists and mappings, and is part of every checkpoint.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restore what :meth:`state_dict` returned.

        Raises:
            ValueError, KeyError: if it does not belong to this learner.
        """

    def figures(self, model: nn.Module, device: torch.device, folder: Path) -> list[Path]:
        """Draw figures of the trained model into a folder, and return their files."""
        return []

    def save(self, model: nn.Module, folder: Path, validation: Validation | None) -> None:
        """Write the two files of the trained model into a folder."""
        raise NotImplementedError
