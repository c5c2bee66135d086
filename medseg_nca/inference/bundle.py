"""A trained model, or an ensemble, as two files: ``weights.safetensors`` and ``model.json``.

A run writes these two files, the registry keeps them, the package ships them and a server loads
them. Both hold data only, so that loading a model never runs code that came with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from medseg_nca.config.engines import AUTO
from medseg_nca.errors import ModelError, OutputError
from medseg_nca.inference.engine_choice import check_engine, used_engine, with_engine
from medseg_nca.inference.fit import check_fit, check_members
from medseg_nca.inference.spec import AS_TRAINED, SPEC, WEIGHTS, ModelSpec, read_spec
from medseg_nca.inference.trained import Description
from medseg_nca.inference.weights import TensorInfo, read_header
from medseg_nca.io.atomic import atomic_file, write_text
from medseg_nca.models import SegmentationModel, build_model

__all__ = [
    "SPEC",
    "WEIGHTS",
    "LoadedModel",
    "ModelSpec",
    "check_bundle",
    "check_weights",
    "file_sha256",
    "load_bundle",
    "load_weights",
    "pick_device",
    "read_spec",
    "save_bundle",
    "save_ensemble",
    "save_loaded",
    "save_pair",
]

Spec = TypeVar("Spec", bound=Description)


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run, on its device and in evaluation mode.

    Attributes:
        model: the network; for an ensemble, that of its first member.
        spec: the content of ``model.json``.
        folder: folder that the two files were loaded from; the download of a model from a store
            may be deleted already.
        device: the device that it computes on.
        others: the networks of the other members of an ensemble.
        engine: name of the engine that computes it, "auto" by default.
    """

    model: SegmentationModel
    spec: ModelSpec
    folder: Path
    device: torch.device
    others: tuple[SegmentationModel, ...] = ()
    engine: str = AUTO

    @property
    def members(self) -> tuple[SegmentationModel, ...]:
        """The networks whose probabilities are averaged: one, or all members of an ensemble."""
        return (self.model, *self.others)

    @property
    def bytes(self) -> int:
        """The memory that the weights of all members take, in bytes."""
        tensors = (
            tensor
            for member in self.members
            for tensor in (*member.parameters(), *member.buffers())
        )
        return sum(tensor.nbytes for tensor in tensors)

    def engine_used(self, precision: str = "float32") -> str | None:
        """Return the engine that computes it here, as :meth:`TrainedModel.engine_used`."""
        return used_engine(self.model, self.engine, self.device, precision)

    @property
    def parameters(self) -> int:
        """The number of learned parameters, summed over all members."""
        return sum(member.parameter_count() for member in self.members)


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" is a GPU if there is one, else the CPU.

    Raises:
        ModelError: if the device is unknown or not present.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    unknown = ModelError(f"Unknown device {name!r}.", hint="Use auto, cpu, cuda or cuda:N.")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise unknown from error
    if device.type not in {"cpu", "cuda"}:
        raise unknown
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("Device 'cuda' was asked for, but torch sees no GPU.", hint="Use cpu.")
    return device


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal.

    Raises:
        ModelError: if the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from error


def save_bundle(folder: Path, model: SegmentationModel, spec: ModelSpec) -> ModelSpec:
    """Write the two files, each atomically, and return the spec with the sha256 of the weights.

    Raises:
        OutputError: if the folder cannot be written.
    """
    return save_pair(folder, model, spec)


def save_ensemble(folder: Path, models: Sequence[SegmentationModel], spec: ModelSpec) -> ModelSpec:
    """Write the two files of an ensemble, each atomically; return the spec with their sha256.

    Args:
        folder: folder of the two files.
        models: the networks of the members, in the order of ``spec.members``.
        spec: the description of the ensemble.

    Raises:
        OutputError: if the folder cannot be written.
    """
    return save_pair(folder, _together(models), spec)


def _together(models: Sequence[SegmentationModel]) -> nn.ModuleDict:
    return nn.ModuleDict({f"member_{number}": model for number, model in enumerate(models)})


def save_pair(folder: Path, model: nn.Module, spec: Spec) -> Spec:
    """Write the two files of a model of any task, each atomically.

    Returns:
        The spec with the sha256 of the weights.

    Raises:
        OutputError: if the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    with atomic_file(folder / WEIGHTS) as path:
        try:
            save_model(model, str(path))
            path.chmod(0o644)  # safetensors makes a file that only its owner can read
        except SafetensorError as error:
            raise OutputError(f"{folder / WEIGHTS}: cannot be written ({error}).") from error
    spec = spec.changed(weights_sha256=file_sha256(folder / WEIGHTS))
    write_text(folder / SPEC, spec.to_json())
    return spec


def save_loaded(folder: Path, loaded: LoadedModel) -> None:
    """Write the two files of a model that is in memory, each atomically.

    The spec gets the sha256 of the new weights file, which holds the same numbers as the file that
    the model was loaded from, but maybe in another layout.

    Raises:
        OutputError: if the folder cannot be written.
    """
    whole = _together(loaded.members) if loaded.spec.members else loaded.model
    save_pair(folder, whole, loaded.spec)


def check_weights(folder: Path, spec: Description) -> tuple[dict[str, TensorInfo], str]:
    """Read the header of the weights file, and compare the file's sha256 with the spec.

    Returns:
        The tensors that the header names, and the sha256 of the file.

    Raises:
        ModelError: if the file is missing or damaged, or has another sha256 than the spec says.
    """
    weights = folder / WEIGHTS
    tensors = read_header(weights)
    digest = file_sha256(weights)
    if spec.weights_sha256 and digest != spec.weights_sha256:
        raise ModelError(
            f"{weights}: has sha256 {digest[:12]}, but {SPEC} says {spec.weights_sha256[:12]}.",
            hint="It is damaged or of another model; export it again.",
        )
    return tensors, digest


def load_weights(folder: Path, module: nn.Module) -> None:
    """Read the weights file of a folder into a network on the CPU.

    Raises:
        ModelError: if the file cannot be read, or does not fit the network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    weights = folder / WEIGHTS
    try:
        load_model(module, str(weights), device="cpu")
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(f"{weights}: cannot be loaded ({error}).", hint=AS_TRAINED) from error


def check_bundle(folder: Path) -> ModelSpec:
    """Check that the two files make a model, without building the model.

    The header of the weights file is read first, then its sha256 is compared with the spec, and the
    tensors that the header names are compared with those that the settings would build. So a file
    from an unknown source cannot make the check use more memory than the file's own size.

    Returns:
        The spec; if ``model.json`` has no sha256 of the weights, it is filled in.

    Raises:
        ModelError: if a file is missing or damaged, a setting has an impossible value, the weights
            have another sha256 than the spec says, or the weights do not fit the settings. The
            message names the file and the setting.
    """
    spec = read_spec(folder)
    tensors, digest = check_weights(folder, spec)
    if spec.members:
        check_members(folder / SPEC, spec.model, len(spec.members), tensors)
    else:
        check_fit(folder / SPEC, spec.model, tensors)
    return spec if spec.weights_sha256 else spec.model_copy(update={"weights_sha256": digest})


def load_bundle(folder: Path, device: str = "auto", engine: str = AUTO) -> LoadedModel:
    """Read a model from its two files, after :func:`check_bundle`.

    Args:
        folder: folder of the two files.
        device: "auto", "cpu", "cuda" or "cuda:N".
        engine: who computes the automaton: the name of an engine; "auto" takes the fastest that
            can.

    Raises:
        ModelError: as :func:`check_bundle` raises it, or if the device is not present.
        ConfigError, DependencyError: if there is no such engine, or it cannot compute the model.
    """
    spec = check_bundle(folder)
    target = pick_device(device)
    settings = with_engine(spec.model, engine)
    models = [build_model(settings) for _ in spec.members or (None,)]
    load_weights(folder, _together(models) if spec.members else models[0])
    first, *others = (model.to(target).eval() for model in models)
    check_engine(first, engine, target)
    return LoadedModel(first, spec, folder, target, tuple(others), engine)
