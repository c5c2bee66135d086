"""What the training loop trains: the seam between it and every task."""

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
    """What a validation found.

    Attributes:
        score: higher is better; decides the best checkpoint and early stopping. NaN if there was
            nothing to measure: then the last weights are kept.
        metrics: logged under their names; the first is the one that people look at.
        cases: score of each case by its id.
    """

    score: float
    metrics: Mapping[str, float]
    cases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ConstantAnswer:
    """What the best answer reaches that is the same for every input, at every place.

    Attributes:
        loss: mean training loss; NaN where it is not known.
        score: of a validation; NaN where it is not known.
    """

    loss: float = float("nan")
    score: float = float("nan")


class Learner(ABC):
    """What one training learns: samples, loss, validation, figures and the files of the model.

    Everything random is derived from the numbers that the loop hands in, never from a global
    generator, so that a resumed run repeats what an undisturbed one does.
    """

    @abstractmethod
    def build_model(self) -> nn.Module:
        """Return a fresh model that fits the data; the loop has seeded torch."""

    @abstractmethod
    def sample(self, index: int) -> Batch:
        """Return the ``index``-th training sample of the run, without the batch axis.

        The same index gives the same sample, whatever was drawn before.
        """

    def collate(self, samples: Sequence[Batch]) -> Batch:
        """Join samples to a batch; by default every tensor gets an axis more."""
        batch: Batch = default_collate(list(samples))
        return batch

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, seed: int) -> tuple[Tensor, Parts]:
        """Return the loss of a batch and its parts for the log (detached).

        Seeding the state, running the automaton and comparing with the target happen here.
        """

    @abstractmethod
    def validate(
        self, model: nn.Module, device: torch.device, job: Job | None = None
    ) -> Validation:
        """Measure a model in evaluation mode on the validation part.

        Args:
            model: in evaluation mode.
            device: of the training.
            job: looked at before every case at least.

        Raises:
            Interrupted: if the job was cancelled.
        """

    def constant_answer(self, batches: Sequence[Batch], device: torch.device) -> ConstantAnswer:
        """Say what the best constant answer reaches, which a model that learned must surpass.

        Args:
            batches: some of the training's, on the device.
            device: of the training.

        Returns:
            NaN for what the task does not know; the loop then does not judge by it.
        """
        return ConstantAnswer()

    def settle(  # noqa: B027
        self, model: nn.Module, device: torch.device, job: Job | None = None
    ) -> None:
        """Decide on validation data how the final model is used; it is saved afterwards.

        Args:
            model: in evaluation mode.
            device: of the training.
            job: looked at before every case at least.

        Raises:
            Interrupted: if the job was cancelled; nothing is decided then.
        """

    def keep(
        self,
        model: nn.Module,
        device: torch.device,
        folder: Path,
        validation: Validation | None,
        job: Job | None = None,
    ) -> None:
        """Save the final model; and again when it is settled how it is used, which may fail.

        Raises:
            Interrupted: if the job was cancelled; the model is saved, and a resumed training
                settles how it is used.
        """
        self.save(model, folder, validation)
        self.settle(model, device, job)
        self.save(model, folder, validation)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs besides the model, such as a pool of states.

        Tensors, numbers, texts, lists and mappings; it is written into every checkpoint.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take back what :meth:`state_dict` gave.

        Raises:
            ValueError, KeyError: if it is not of this learner.
        """

    def figures(self, model: nn.Module, device: torch.device, folder: Path) -> list[Path]:
        """Draw what is worth seeing after training; returns the files."""
        return []

    def save(self, model: nn.Module, folder: Path, validation: Validation | None) -> None:
        """Write the trained model in the form that this task is used in."""
        raise NotImplementedError
