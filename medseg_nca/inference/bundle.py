"""A trained model as two data files: ``weights.safetensors`` and ``model.json``.

The pair is what a run leaves, what the registry keeps, what the package ships and what a server
loads. Loading it runs no code of its origin.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, ValidationError, model_validator

from medseg_nca.config import LabelTable, PreprocessPlan, Settings
from medseg_nca.config.model import ModelSettings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ModelError, OutputError
from medseg_nca.io.atomic import atomic_file, write_text
from medseg_nca.models import SegmentationModel, build_model

WEIGHTS = "weights.safetensors"
SPEC = "model.json"
FORMAT_VERSION = 1


class ModelSpec(Settings):
    """Everything besides the weights that decides a prediction, and where the model came from.

    ``metrics`` are those of the validation; ``weights_sha256`` guards the weights file.
    """

    format_version: int = FORMAT_VERSION
    name: str
    task: str = "segmentation"
    model: ModelSettings
    labels: LabelTable
    plan: PreprocessPlan
    prediction: PredictionSettings = PredictionSettings()
    seed: int = 0
    training_data: str = ""
    training_data_hash: str = ""
    metrics: dict[str, Any] = Field(default_factory=dict)
    package_version: str = ""
    created: str = ""
    weights_sha256: str = ""
    reference: dict[str, str] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """The parts of a spec that was edited by hand must still fit each other."""
        model, plan = self.model, self.plan
        if model.dims != plan.dims:
            raise ValueError(f"the model has {model.dims} axes, the plan {plan.dims}")
        if model.in_channels not in (None, plan.in_channels):
            raise ValueError(
                f"the model has {model.in_channels} image channels, the plan {plan.in_channels}"
            )
        outputs = self.labels.channels
        if model.out_channels not in (None, outputs):
            raise ValueError(f"the model has {model.out_channels} outputs, its labels {outputs}")
        return self


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run, on its device and in evaluation mode."""

    model: SegmentationModel
    spec: ModelSpec
    folder: Path
    device: torch.device


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
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    with atomic_file(folder / WEIGHTS) as path:
        try:
            save_model(model, str(path))
            path.chmod(0o644)  # safetensors makes a file that only its owner can read
        except SafetensorError as error:
            raise OutputError(f"{folder / WEIGHTS}: cannot be written ({error}).") from error
    spec = spec.model_copy(update={"weights_sha256": file_sha256(folder / WEIGHTS)})
    write_text(folder / SPEC, spec.model_dump_json(indent=2) + "\n")
    return spec


def read_spec(folder: Path) -> ModelSpec:
    """Read ``model.json``.

    Raises:
        ModelError: if it is missing, damaged or of a newer format.
    """
    path = folder / SPEC
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}).",
            hint=f"A model is a folder with {WEIGHTS} and {SPEC}.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not valid JSON ({error}).") from error
    version = tree.get("format_version") if isinstance(tree, dict) else None
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{path}: has format version {version}; this package reads {FORMAT_VERSION}.",
            hint="Upgrade medseg-nca, or export the model again.",
        )
    try:
        return ModelSpec.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{path}: {key}: {first['msg']}.") from error


def load_bundle(folder: Path, device: str = "auto") -> LoadedModel:
    """Read a model from its two files.

    Raises:
        ModelError: if a file is missing or damaged, the weights are not those that the spec names,
            or they do not fit the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    spec = read_spec(folder)
    weights = folder / WEIGHTS
    digest = file_sha256(weights)
    if spec.weights_sha256 and digest != spec.weights_sha256:
        raise ModelError(
            f"{weights}: has sha256 {digest[:12]}, but {SPEC} says {spec.weights_sha256[:12]}.",
            hint="It is damaged or of another model; export it again.",
        )
    target = pick_device(device)
    model = build_model(spec.model)
    try:
        load_model(model, str(weights), device="cpu")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{weights}: is not a readable safetensors file ({error}).") from error
    except RuntimeError as error:
        raise ModelError(f"{weights}: does not fit its {SPEC} ({error}).") from error
    return LoadedModel(model.to(target).eval(), spec, folder, target)
