"""A trained model of any task as two files: ``weights.safetensors`` and ``model.json``.

Segmentation has an older form of these files (:mod:`medseg_nca.inference.bundle`); all other tasks
use the form in this module. What every task says about a model is a field of its own; what only one
task says is in two mappings, ``options`` and ``facts``, which that task checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import nn

from medseg_nca import __version__
from medseg_nca.config import RunSettings, Settings
from medseg_nca.config.bounds import Name, plain
from medseg_nca.config.engines import AUTO
from medseg_nca.config.explain import explain
from medseg_nca.config.model import ModelSettings, NcaModelSettings
from medseg_nca.errors import MedsegError, ModelError
from medseg_nca.inference.bundle import check_weights, load_weights, pick_device, save_pair
from medseg_nca.inference.engine_choice import check_engine, used_engine, with_engine
from medseg_nca.inference.fit import at_most, compare_tensors
from medseg_nca.inference.spec import AS_TRAINED, SPEC, Digest, portable_model, read_tree

TASK_VERSION: Literal[3] = 3

Build = Callable[["TaskSpec"], nn.Module]


class TaskSpec(Settings):
    """Everything except the weights that decides an answer, and where the model came from.

    ``options`` are the task's own settings. ``facts`` are what the task must know about the data
    (names of classes, statistics of intensities). ``metrics`` are the metrics of the validation.
    ``reference`` is a stored answer, by which the model is checked on another machine.
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
        """Return the text of ``model.json``, without settings that suit one machine only."""
        hidden = {"model": set(NcaModelSettings.OF_THE_MACHINE)}
        return self.model_dump_json(indent=2, exclude=hidden) + "\n"


@dataclass(frozen=True)
class TaskModel:
    """A model that is ready to run, on its device and in evaluation mode.

    Attributes:
        module: the network.
        spec: the content of ``model.json``.
        folder: folder that the two files were loaded from; the download of a model from a store
            may be deleted already.
        device: the device that it computes on.
        engine: name of the engine that computes it, "auto" by default.
        cache: values that a task computes from the model once and keeps here.
    """

    module: nn.Module
    spec: TaskSpec
    folder: Path
    device: torch.device
    engine: str = AUTO
    cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def engine_used(self, precision: str = "float32") -> str | None:
        """Return the engine that computes it here, as :meth:`TrainedModel.engine_used`."""
        return used_engine(self.module, self.engine, self.device, precision)

    @property
    def parameters(self) -> int:
        """The number of learned parameters."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    @property
    def bytes(self) -> int:
        """The memory that the weights take, in bytes."""
        return sum(t.nbytes for t in (*self.module.parameters(), *self.module.buffers()))


def save_task_model(folder: Path, module: nn.Module, spec: TaskSpec) -> TaskSpec:
    """Write the two files, each atomically, and return the spec with the sha256 of the weights.

    Raises:
        OutputError: if the folder cannot be written.
    """
    return save_pair(folder, module, spec)


def spec_of_run(
    settings: RunSettings,
    model: ModelSettings,
    *,
    options: Settings,
    facts: Mapping[str, Any],
    metrics: Mapping[str, float | None] | None,
    data: tuple[str, str] = ("", ""),
) -> TaskSpec:
    """Return what ``model.json`` says of a model that a run has trained.

    Args:
        settings: settings of the run.
        model: the model's settings, with the channels that the data ask for.
        options: the task's own settings.
        facts: what the task has to know of the data, as plain values.
        metrics: those of the validation; None if there was none.
        data: name and hash of the data set; empty where there is none.
    """
    return TaskSpec(
        name=settings.name,
        task=settings.task,
        model=model,
        options=options.model_dump(mode="json"),
        facts=dict(facts),
        seed=settings.seed,
        training_data=data[0],
        training_data_hash=data[1],
        metrics=dict(metrics or {}),
        package_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def read_task_spec(folder: Path, task: str) -> TaskSpec:
    """Read ``model.json`` of a task's model, without looking at the weights.

    Args:
        folder: folder of the model's two files.
        task: registered name of the task that the model must belong to.

    Raises:
        ModelError: if the file is missing or damaged, has another format or task, or has a value
            that no model could have; the message names the field.
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
        spec = TaskSpec.model_validate_json(content, strict=True)
        return spec.changed(model=portable_model(spec.model))
    except ValidationError as error:
        raise ModelError(f"{path}: {explain(TaskSpec, error)}.", hint=AS_TRAINED) from error


def check_task_model(folder: Path, task: str, build: Build) -> TaskSpec:
    """Check that the two files make a model, without memory of the model's size.

    Args:
        folder: folder of the model's two files.
        task: registered name of the task that the model must belong to.
        build: makes the network from the spec; it may raise any error for strange settings.

    Returns:
        The spec; if ``model.json`` has no sha256 of the weights, it is filled in.

    Raises:
        ModelError: if a file is missing or damaged, or the weights do not fit the settings.
    """
    spec = read_task_spec(folder, task)
    tensors, digest = check_weights(folder, spec)
    try:
        with torch.device("meta"), at_most(4 * len(tensors) + 64):
            module = build(spec)
        compare_tensors(module, tensors)
    except MedsegError as error:
        raise ModelError(f"{folder / SPEC}: {error.message}", hint=error.hint or AS_TRAINED) from (
            error
        )
    except Exception as error:  # a task's network may raise anything for strange settings
        text = plain(str(error) or type(error).__name__)
        raise ModelError(f"{folder / SPEC}: makes no network: {text}.", hint=AS_TRAINED) from error
    return spec.changed(weights_sha256=digest)


def load_task_model(
    folder: Path, task: str, build: Build, device: str = "auto", engine: str = AUTO
) -> TaskModel:
    """Read a model from its two files, after :func:`check_task_model`.

    Args:
        folder: folder of the two files.
        task: registered name of the task that the model must belong to.
        build: makes the network from the spec, for the engine that ``spec.model`` names.
        device: "auto", "cpu", "cuda" or "cuda:N".
        engine: who computes the automaton: the name of an engine; "auto" takes the fastest that
            can.

    Raises:
        ModelError: as :func:`check_task_model` raises it, or if the device is not present.
        ConfigError, DependencyError: if there is no such engine, or it cannot compute the model.
    """
    spec = check_task_model(folder, task, build)
    target = pick_device(device)
    module = build(spec.changed(model=with_engine(spec.model, engine)))
    load_weights(folder, module)
    module = module.to(target).eval()
    check_engine(module, engine, target)
    return TaskModel(module, spec, folder, target, engine)


def task_of(folder: Path) -> str:
    """Return the registered name of a model's task, from its ``model.json``.

    Raises:
        ModelError: if the file is missing or holds no JSON object.
    """
    _, tree = read_tree(folder / SPEC)
    return str(tree.get("task", "segmentation"))
