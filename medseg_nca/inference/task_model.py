"""A trained model of any task as two files: ``weights.safetensors`` and ``model.json``.

Segmentation has files of its own (:mod:`medseg_nca.inference.bundle`), which are older. Every other
task uses these: what all tasks say of a model are fields, what one task says of it are two
mappings, which that task checks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import nn

from medseg_nca.config import Settings
from medseg_nca.config.bounds import Name, plain
from medseg_nca.config.explain import explain
from medseg_nca.config.model import ModelSettings
from medseg_nca.errors import MedsegError, ModelError, OutputError
from medseg_nca.inference.bundle import file_sha256, pick_device
from medseg_nca.inference.fit import at_most, compare_tensors
from medseg_nca.inference.spec import AS_TRAINED, SPEC, WEIGHTS, Digest, read_tree
from medseg_nca.inference.weights import read_header
from medseg_nca.io.atomic import atomic_file, write_text

TASK_VERSION: Literal[3] = 3

Build = Callable[["TaskSpec"], nn.Module]


class TaskSpec(Settings):
    """Everything besides the weights that decides an answer, and where the model came from.

    ``options`` are the task's own settings, ``facts`` what the task has to know of the data (the
    names of classes, the statistics of intensities); ``metrics`` are those of the validation.
    """

    format_version: Literal[3] = TASK_VERSION
    name: Name
    task: str
    model: ModelSettings
    options: dict[str, Any] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(0, ge=0, lt=2**63)
    training_data: str = ""
    training_data_hash: str = ""
    metrics: dict[str, float | None] = Field(default_factory=dict)
    package_version: str = ""
    created: str = ""
    weights_sha256: Digest = ""
    reference: dict[str, str] | None = None

    def to_json(self) -> str:
        """The text of ``model.json``, without what depends on the machine of the training."""
        hidden = {"model": {"engine", "checkpoint"}}
        return self.model_dump_json(indent=2, exclude=hidden) + "\n"


@dataclass(frozen=True)
class TaskModel:
    """A model that is ready to run, on its device and in evaluation mode.

    Attributes:
        module: the network.
        spec: what it is.
        folder: of its two files; of a model from a store it is gone by now.
        device: where it computes.
        cache: for what a task derives from the model once.
    """

    module: nn.Module
    spec: TaskSpec
    folder: Path
    device: torch.device
    cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        return sum(parameter.numel() for parameter in self.module.parameters())


def save_task_model(folder: Path, module: nn.Module, spec: TaskSpec) -> TaskSpec:
    """Write the two files, each atomically; returns the spec with the weights' sha256.

    Raises:
        OutputError: if the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    with atomic_file(folder / WEIGHTS) as path:
        try:
            save_model(module, str(path))
            path.chmod(0o644)  # safetensors makes a file that only its owner can read
        except SafetensorError as error:
            raise OutputError(f"{folder / WEIGHTS}: cannot be written ({error}).") from error
    spec = spec.changed(weights_sha256=file_sha256(folder / WEIGHTS))
    write_text(folder / SPEC, spec.to_json())
    return spec


def read_task_spec(folder: Path, task: str) -> TaskSpec:
    """Read ``model.json`` of a task; whether the weights fit it is another question.

    Args:
        folder: of the model.
        task: that the model must be of.

    Raises:
        ModelError: if the file is missing, damaged, of another format or task, or no model could
            have what it says; the field is named.
    """
    path = folder / SPEC
    content, tree = read_tree(path)
    said = str(tree.get("task", "segmentation"))
    if said != task:
        raise ModelError(f"{path}: is a model of the task {plain(said)}, not of {task}.")
    if tree.get("format_version") != TASK_VERSION:
        raise ModelError(
            f"{path}: format_version is {str(tree.get('format_version'))[:20]!r}; this package "
            f"reads {TASK_VERSION} for the task {task}.",
            hint="Upgrade medseg-nca, or export the model again.",
        )
    try:
        return TaskSpec.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise ModelError(f"{path}: {explain(TaskSpec, error)}.", hint=AS_TRAINED) from error


def check_task_model(folder: Path, task: str, build: Build) -> TaskSpec:
    """Find out whether the two files make a model; no memory of its size is taken.

    Args:
        folder: of the model.
        task: that the model must be of.
        build: makes the network from the spec; it may raise any error for strange settings.

    Returns:
        The spec, which names the weights also where the file does not.

    Raises:
        ModelError: if a file is missing or damaged, or the weights do not fit the settings.
    """
    spec = read_task_spec(folder, task)
    weights = folder / WEIGHTS
    tensors = read_header(weights)
    digest = file_sha256(weights)
    if spec.weights_sha256 and digest != spec.weights_sha256:
        raise ModelError(
            f"{weights}: has sha256 {digest[:12]}, but {SPEC} says {spec.weights_sha256[:12]}.",
            hint="It is damaged or of another model; export it again.",
        )
    try:
        with torch.device("meta"), at_most(4 * len(tensors) + 64):
            module = build(spec)
        compare_tensors(module, tensors)
    except MedsegError as error:
        raise ModelError(f"{folder / SPEC}: {error.message}", hint=error.hint or AS_TRAINED) from (
            error
        )
    except Exception as error:  # networks of others raise anything for strange settings
        text = plain(str(error) or type(error).__name__)
        raise ModelError(f"{folder / SPEC}: makes no network: {text}.", hint=AS_TRAINED) from error
    return spec.changed(weights_sha256=digest)


def load_task_model(folder: Path, task: str, build: Build, device: str = "auto") -> TaskModel:
    """Read a model from its two files, after :func:`check_task_model`.

    Raises:
        ModelError: as :func:`check_task_model`, or if the device is not present.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    spec = check_task_model(folder, task, build)
    target = pick_device(device)
    module = build(spec)
    try:
        load_model(module, str(folder / WEIGHTS), device="cpu")
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(f"{folder / WEIGHTS}: cannot be loaded ({error}).", hint=AS_TRAINED) from (
            error
        )
    return TaskModel(module.to(target).eval(), spec, folder, target)


def task_of(folder: Path) -> str:
    """Say which task a model is of, from its ``model.json``.

    Raises:
        ModelError: if the file is missing or is no JSON object.
    """
    _, tree = read_tree(folder / SPEC)
    return str(tree.get("task", "segmentation"))
