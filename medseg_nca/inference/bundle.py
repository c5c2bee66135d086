"""A trained model, or an ensemble, as two files: ``weights.safetensors`` and ``model.json``.

The pair is what a run leaves, what the registry keeps, what the package ships and what a server
loads. Loading it runs no code of its origin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from medseg_nca.errors import ModelError, OutputError
from medseg_nca.inference.fit import check_fit, check_members
from medseg_nca.inference.spec import AS_TRAINED, SPEC, WEIGHTS, ModelSpec, read_spec
from medseg_nca.inference.weights import read_header
from medseg_nca.io.atomic import atomic_file, write_text
from medseg_nca.models import SegmentationModel, build_model

__all__ = [
    "SPEC",
    "WEIGHTS",
    "LoadedModel",
    "ModelSpec",
    "check_bundle",
    "file_sha256",
    "load_bundle",
    "pick_device",
    "read_spec",
    "save_bundle",
    "save_ensemble",
    "save_loaded",
]


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run, on its device and in evaluation mode.

    Attributes:
        model: the model; of an ensemble its first member.
        spec: what it is.
        folder: of its two files; of a model from a store it is gone by now.
        device: where it computes.
        others: the other members of an ensemble.
    """

    model: SegmentationModel
    spec: ModelSpec
    folder: Path
    device: torch.device
    others: tuple[SegmentationModel, ...] = ()

    @property
    def members(self) -> tuple[SegmentationModel, ...]:
        """The models whose probabilities are averaged: one, or those of an ensemble."""
        return (self.model, *self.others)

    @property
    def bytes(self) -> int:
        """How much memory the weights of all members take."""
        tensors = (
            tensor
            for member in self.members
            for tensor in (*member.parameters(), *member.buffers())
        )
        return sum(tensor.nbytes for tensor in tensors)

    @property
    def parameters(self) -> int:
        """How many numbers were learned, in all members."""
        return sum(member.parameter_count() for member in self.members)


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" is a GPU where there is one.

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
    """Write the two files, each atomically; returns the spec with the weights' sha256.

    Raises:
        OutputError: if the folder cannot be written.
    """
    return _save(folder, model, spec)


def save_ensemble(folder: Path, models: Sequence[SegmentationModel], spec: ModelSpec) -> ModelSpec:
    """Write the two files of an ensemble as :func:`save_bundle`; ``spec`` names its members."""
    return _save(folder, _together(models), spec)


def _together(models: Sequence[SegmentationModel]) -> nn.ModuleDict:
    return nn.ModuleDict({f"member_{number}": model for number, model in enumerate(models)})


def _save(folder: Path, model: nn.Module, spec: ModelSpec) -> ModelSpec:
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

    The spec names the new file of weights, which holds the same numbers and may differ in its
    layout.

    Raises:
        OutputError: if the folder cannot be written.
    """
    whole = _together(loaded.members) if loaded.spec.members else loaded.model
    _save(folder, whole, loaded.spec)


def check_bundle(folder: Path) -> ModelSpec:
    """Find out whether the two files make a model, without building it.

    The weights file is looked at by its header first, then by its digest, and what the header names
    is compared with what the settings would build: files from anywhere cost no more than they hold.

    Returns:
        The spec, which names the weights also where the file does not.

    Raises:
        ModelError: if a file is missing or damaged, a setting is out of all reason, the weights are
            not those that the spec names, or they do not fit the settings. File and setting are
            named.
    """
    spec = read_spec(folder)
    weights = folder / WEIGHTS
    tensors = read_header(weights)
    digest = file_sha256(weights)
    if spec.weights_sha256 and digest != spec.weights_sha256:
        raise ModelError(
            f"{weights}: has sha256 {digest[:12]}, but {SPEC} says {spec.weights_sha256[:12]}.",
            hint="It is damaged or of another model; export it again.",
        )
    if spec.members:
        check_members(folder / SPEC, spec.model, len(spec.members), tensors)
    else:
        check_fit(folder / SPEC, spec.model, tensors)
    return spec if spec.weights_sha256 else spec.model_copy(update={"weights_sha256": digest})


def load_bundle(folder: Path, device: str = "auto") -> LoadedModel:
    """Read a model from its two files, after :func:`check_bundle`.

    Raises:
        ModelError: as :func:`check_bundle`, or if the device is not present.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    spec = check_bundle(folder)
    weights = folder / WEIGHTS
    target = pick_device(device)
    models = [build_model(spec.model) for _ in spec.members or (None,)]
    try:
        whole = _together(models) if spec.members else models[0]
        load_model(whole, str(weights), device="cpu")
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(f"{weights}: cannot be loaded ({error}).", hint=AS_TRAINED) from error
    first, *others = (model.to(target).eval() for model in models)
    return LoadedModel(first, spec, folder, target, tuple(others))
