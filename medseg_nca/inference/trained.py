"""What a trained model of every task says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import torch

    from medseg_nca.config.model import ModelSettings


class Description(Protocol):
    """What ``model.json`` of every task holds; a task adds more."""

    @property
    def name(self) -> str:
        """Of the model."""

    @property
    def task(self) -> str:
        """The registered name of the task."""

    @property
    def model(self) -> ModelSettings:
        """What the network is built from."""

    @property
    def training_data(self) -> str:
        """Name of the data set; "" if there is none."""

    @property
    def training_data_hash(self) -> str:
        """Hash of the data set; "" if there is none."""

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Of the validation."""

    @property
    def package_version(self) -> str:
        """Of the package that trained the model."""

    @property
    def weights_sha256(self) -> str:
        """Of the file of weights."""

    @property
    def reference(self) -> Mapping[str, str] | None:
        """A stored answer, see :meth:`medseg_nca.tasks.base.Task.make_reference`."""

    def changed(self, **values: Any) -> Self:
        """The same description with other values, which are checked."""

    def to_json(self) -> str:
        """The text of ``model.json``."""


class TrainedModel(Protocol):
    """A model of any task, on its device and in evaluation mode."""

    @property
    def spec(self) -> Description:
        """What the model is."""

    @property
    def folder(self) -> Path:
        """Of its two files; of a model from a store it is gone by now."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
