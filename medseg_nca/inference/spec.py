"""``model.json``: what of a model is not its weights. Reading it needs no torch.

An ensemble is a model too: the settings that all its members have in common, and a list of what
each of them has by itself. Its ``format_version`` is another one, so that a reader that knows
nothing of ensembles refuses it and does not take it for one model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from medseg_nca.config import LabelTable, PreprocessPlan, Settings
from medseg_nca.config.bounds import MAX_MEMBERS, Name, plain
from medseg_nca.config.explain import explain
from medseg_nca.config.labels import MERGED
from medseg_nca.config.model import ModelSettings, NcaModelSettings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ModelError
from medseg_nca.inference.strict_json import parse_json, read_regular
from medseg_nca.inference.weights import MISSING
from medseg_nca.suggest import unknown

SEGMENTATION = "segmentation"
WEIGHTS = "weights.safetensors"
SPEC = "model.json"
# Of one model, and of an ensemble.
FORMAT_VERSION, ENSEMBLE_VERSION = 1, 2
# Half a thousand coded labels and a stored prediction take a quarter of it.
MAX_SPEC_BYTES = 2**20
# The hint of every error about a model's files.
AS_TRAINED = (
    "A trained model's settings cannot be changed by hand: take both files from its run again, or "
    "register it again."
)


Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


# Settings of an automaton that belong to a run on one machine: a model that is used elsewhere, or
# trained on, takes their defaults.
OF_THE_MACHINE = ("engine", "checkpoint")


class Member(Settings):
    """A model of an ensemble: what of its own ``model.json`` is not the ensemble's too.

    ``weights_sha256`` is that of the file that it came from.
    """

    name: Name
    seed: int = Field(0, ge=0, lt=2**63)
    training_data: str = ""
    training_data_hash: str = ""
    metrics: dict[str, float | None] = Field(default_factory=dict)
    created: str = ""
    weights_sha256: Digest = ""


class ModelSpec(Settings):
    """Everything besides the weights that decides a prediction, and where the model came from.

    ``metrics`` are those of the validation, of an ensemble the mean over its members, each on its
    own validation cases; ``weights_sha256`` guards the weights file. ``members`` are those of an
    ensemble, whose tensors are called ``member_0.NAME``, ``member_1.NAME`` and so on.
    """

    format_version: int = FORMAT_VERSION
    name: Name
    task: str = "segmentation"
    model: ModelSettings
    labels: LabelTable
    plan: PreprocessPlan
    prediction: PredictionSettings = PredictionSettings()
    seed: int = Field(0, ge=0, lt=2**63)
    training_data: str = ""
    training_data_hash: str = ""
    metrics: dict[str, float | None] = Field(default_factory=dict)
    package_version: str = ""
    created: str = ""
    weights_sha256: Digest = ""
    reference: dict[str, str] | None = None
    members: tuple[Member, ...] = Field((), max_length=MAX_MEMBERS)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """The parts of a spec that was edited by hand must still fit each other."""
        model, plan = self.model, self.plan
        if self.format_version not in (FORMAT_VERSION, ENSEMBLE_VERSION):
            raise ValueError(f"format_version is {self.format_version}")
        if (self.format_version == ENSEMBLE_VERSION) != (len(self.members) > 1):
            raise ValueError(
                f"members are {len(self.members)}, but format_version is {self.format_version}: "
                f"{FORMAT_VERSION} is one model, {ENSEMBLE_VERSION} an ensemble of two or more"
            )
        if model.dims != plan.dims:
            raise ValueError(f"model.dims is {model.dims}, but plan.dims is {plan.dims}")
        if model.in_channels not in (None, plan.in_channels):
            raise ValueError(
                f"model.in_channels is {model.in_channels}, but the plan has {plan.in_channels}"
            )
        outputs = self.labels.channels
        if model.out_channels not in (None, outputs):
            raise ValueError(
                f"model.out_channels is {model.out_channels}, but the labels need {outputs}"
            )
        return self

    def to_json(self) -> str:
        """The text of ``model.json``, without what depends on the machine of the training."""
        hidden: dict[str, Any] = {"model": set(OF_THE_MACHINE)}
        if not self.members:
            # A single model has no members: its file is as it was before there were ensembles.
            hidden["members"] = True
        return self.model_dump_json(indent=2, exclude=hidden) + "\n"

    def decided(self, settings: PredictionSettings) -> PredictionSettings:
        """Settings to run the model with: "auto" is what it says itself, else nothing."""
        own = {"flips": self.prediction.flip_axes, "largest": self.prediction.kept_labels}
        open_ = {name: value for name, value in own.items() if getattr(settings, name) == "auto"}
        return settings.changed(**open_)


def read_tree(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Read a ``model.json`` of any task: its content, and the object in it.

    Raises:
        ModelError: if it is missing, too large, or holds no JSON object.
    """
    try:
        content = read_regular(path, MAX_SPEC_BYTES)
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}).",
            hint=MISSING,
        ) from error
    except ValueError as error:
        raise ModelError(f"{path}: {error}; it is no model's.", hint=AS_TRAINED) from error
    try:
        tree = parse_json(content)
    except ValueError as error:
        raise ModelError(f"{path}: is not valid JSON ({error}).", hint=AS_TRAINED) from error
    return content, tree if isinstance(tree, dict) else {}


def read_spec(folder: Path) -> ModelSpec:
    """Read ``model.json``; whether the weights fit it is another question.

    Raises:
        ModelError: if it is missing, damaged, of a newer format or another task, or no model could
            have what it says; the field is named.
    """
    path = folder / SPEC
    content, tree = read_tree(path)
    task = tree.get("task", SEGMENTATION)
    if task != SEGMENTATION and isinstance(task, str):
        raise ModelError(
            f"{path}: is a model of the task {plain(task)}, and segmentation is needed here.",
            hint="evaluate, predict and models take models of every task; what works on label maps "
            "takes those of segmentation.",
        )
    version = tree.get("format_version")
    if type(version) is not int or version not in (FORMAT_VERSION, ENSEMBLE_VERSION):
        raise ModelError(
            f"{path}: format_version is {str(version)[:20]!r}; this package reads "
            f"{FORMAT_VERSION}, and {ENSEMBLE_VERSION} for an ensemble.",
            hint="Upgrade medseg-nca, or export the model again.",
        )
    try:
        # Strict: true is no number, "3" is none either.
        spec = ModelSpec.model_validate_json(content, strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        if faults[0]["type"] == "json_invalid":  # half of a surrogate pair
            text = f"is not valid JSON ({faults[0]['msg']})"
        else:
            text = explain(ModelSpec, error)
        raise ModelError(f"{path}: {text}.", hint=AS_TRAINED) from error
    _check_use(spec, path)
    return _for_this_machine(spec)


def _for_this_machine(spec: ModelSpec) -> ModelSpec:
    """Forget who computed the training; files that were written until November 2026 say so."""
    if not isinstance(spec.model, NcaModelSettings):
        return spec
    fields = type(spec.model).model_fields
    defaults = {name: fields[name].default for name in OF_THE_MACHINE}
    return spec.changed(model=spec.model.changed(**defaults))


def strange_labels(settings: PredictionSettings, labels: LabelTable) -> str | None:
    """Say which name in ``prediction.largest`` is no label's; None if all are labels."""
    known = (*labels.names, MERGED)
    for name in settings.kept_labels:
        if name not in known:
            return f"prediction.largest: {unknown('label', name, known)}"
    return None


def _check_use(spec: ModelSpec, path: Path) -> None:
    """What would otherwise be noticed when the model is used."""
    plan, flips = spec.plan, spec.prediction.flip_axes
    if any(axis >= plan.dims for axis in flips):
        raise ModelError(
            f"{path}: prediction.flips: {max(flips)} is no axis; they are 0 to {plan.dims - 1}.",
            hint=AS_TRAINED,
        )
    strange = strange_labels(spec.prediction, spec.labels)
    if strange is not None:
        raise ModelError(f"{path}: {strange}", hint=AS_TRAINED)
    known = len(plan.statistics or ())
    if plan.normalise == "ct" and known != plan.in_channels:
        raise ModelError(
            f"{path}: plan.statistics: normalisation 'ct' needs those of {plan.in_channels} "
            f"channels, and there are {known}.",
            hint=AS_TRAINED,
        )
