"""The interface of a trained model, the same for every task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import torch

    from medseg_nca.config.model import ModelSettings


class Description(Protocol):
    """The content of ``model.json`` that every task has; a task adds fields of its own."""

    @property
    def name(self) -> str:
        """The name of the model."""

    @property
    def task(self) -> str:
        """The registered name of the task."""

    @property
    def model(self) -> ModelSettings:
        """The settings that the network is built from."""

    @property
    def training_data(self) -> str:
        """Name of the data set; "" if there is none."""

    @property
    def training_data_hash(self) -> str:
        """Hash of the data set; "" if there is none."""

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """The metrics of the validation, by name; the first is the score."""

    @property
    def package_version(self) -> str:
        """The version of medseg-nca that trained the model."""

    @property
    def weights_sha256(self) -> str:
        """The sha256 of the weights file, in hexadecimal."""

    @property
    def reference(self) -> Mapping[str, str] | None:
        """The stored answer that ``Task.make_reference`` returned; None if there is none."""

    def changed(self, **values: Any) -> Self:
        """Return the description with other values for some fields, which are validated."""

    def to_json(self) -> str:
        """Return the text of ``model.json``."""


class TrainedModel(Protocol):
    """A model of any task, on its device and in evaluation mode."""

    @property
    def spec(self) -> Description:
        """The content of ``model.json``."""

    @property
    def folder(self) -> Path:
        """The folder that the two files were loaded from; a download may be deleted already."""

    @property
    def device(self) -> torch.device:
        """The device that the model computes on."""

    @property
    def engine(self) -> str:
        """The engine that was asked for when the model was loaded, "auto" by default."""

    def engine_used(self, precision: str = "float32") -> str | None:
        """Return the engine that computes the model here: of "auto", the one that it takes.

        None if no engine computes it, because it is no automaton.

        Args:
            precision: type of the state, "float32" or "bfloat16".
        """

    @property
    def parameters(self) -> int:
        """The number of learned parameters."""
