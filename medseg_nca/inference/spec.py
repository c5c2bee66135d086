"""``model.json``: everything about a model except its weights. Reading it needs no torch.

An ensemble is a model too: its file has the settings that all members have in common, and a list
of what each member has of its own. It has a ``format_version`` of its own, so that a reader without
support for ensembles refuses the file and does not take it for a single model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from medseg_nca.config import LabelTable, PreprocessPlan, Settings
from medseg_nca.config.bounds import MAX_LEVELS, MAX_MEMBERS, Name, plain, short
from medseg_nca.config.explain import explain
from medseg_nca.config.labels import MERGED
from medseg_nca.config.model import ModelSettings, NcaModelSettings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.config.trust import TrustSection
from medseg_nca.errors import ModelError
from medseg_nca.inference.strict_json import parse_json, read_regular
from medseg_nca.inference.weights import MISSING
from medseg_nca.suggest import unknown

SEGMENTATION = "segmentation"
WEIGHTS = "weights.safetensors"
SPEC = "model.json"
# Versions of the file of a single model, and of the file of an ensemble.
FORMAT_VERSION, ENSEMBLE_VERSION = 1, 2
# Largest file that is read. A model with 500 coded labels and a stored prediction takes a quarter.
MAX_SPEC_BYTES = 2**20
# The hint of every error about a model's files.
AS_TRAINED = (
    "A trained model's settings cannot be changed by hand: take both files from its run again, or "
    "register it again."
)


Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


class Member(Settings):
    """A member of an ensemble: the part of its ``model.json`` that the members do not share.

    ``weights_sha256`` is the sha256 of the weights file that the member was taken from.
    """

    name: Name
    seed: int = Field(0, ge=0, lt=2**63)
    training_data: str = ""
    training_data_hash: str = ""
    metrics: dict[str, float | None] = Field(default_factory=dict)
    created: str = ""
    weights_sha256: Digest = ""


class OriginFile(Settings):
    """A file that a model was imported from: its name without folders, and its sha256."""

    name: Name
    sha256: Digest


class Origin(Settings):
    """Where an imported model comes from: the family of the published code, and the files."""

    family: Name
    files: tuple[OriginFile, ...] = Field(min_length=1, max_length=MAX_LEVELS)


class ModelSpec(Settings):
    """Everything except the weights that decides a prediction, and where the model came from.

    ``metrics`` are the metrics of the validation; for an ensemble, their means over the members,
    each on its own validation cases. ``weights_sha256`` is the sha256 by which the weights file is
    checked. ``members`` is empty for a single model; the tensors of an ensemble are called
    ``member_0.NAME``, ``member_1.NAME`` and so on. ``origin`` is None unless the model was imported
    from a checkpoint of other code. ``trust`` is None for a model that cannot estimate its answers.
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
    origin: Origin | None = None
    trust: TrustSection | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Check that the parts fit each other, also if the file was edited by hand."""
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
        scaled = [] if self.trust is None else [scale.label for scale in self.trust.scales]
        if len(set(scaled)) != len(scaled) or not set(scaled) <= set(self.labels.names):
            raise ValueError(
                f"trust.scales are of the labels {short(scaled)}; the model has "
                f"{short(list(self.labels.names))}"
            )
        return self

    def to_json(self) -> str:
        """Return the text of ``model.json``, without settings that suit one machine only."""
        hidden: dict[str, Any] = {
            "model": set(NcaModelSettings.OF_THE_MACHINE),
            "prediction": set(PredictionSettings.OF_THE_MACHINE),
        }
        if not self.members:
            # A single model has no members: its file is as it was before there were ensembles.
            hidden["members"] = True
        if self.origin is None:
            hidden["origin"] = True
        text = self.model_dump_json(indent=2, exclude={**hidden, "trust": True})
        if self.trust is None:
            return text + "\n"
        # Thousands of numbers: a line for each tree, not for each number.
        section = self.trust.model_dump_json().replace('{"feature"', '\n    {"feature"')
        return f'{text[:-2]},\n  "trust": {section}\n}}\n'

    def decided(self, settings: PredictionSettings) -> PredictionSettings:
        """Return the settings with each "auto" replaced by what the model carries for it."""
        own = {"flips": self.prediction.flip_axes, "largest": self.prediction.kept_labels}
        open_ = {name: value for name, value in own.items() if getattr(settings, name) == "auto"}
        return settings.changed(**open_)


def read_tree(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Read a ``model.json`` of any task, and return its bytes and the JSON object in it.

    Raises:
        ModelError: if the file is missing, too large, or holds no JSON object.
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
    """Read ``model.json`` of a segmentation model, without looking at the weights.

    Raises:
        ModelError: if the file is missing or damaged, has a newer format or another task, or has
            a value that no model could have; the message names the field.
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
        # Strict parsing: neither ``true`` nor ``"3"`` is taken for a number.
        spec = ModelSpec.model_validate_json(content, strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        if faults[0]["type"] == "json_invalid":  # half of a surrogate pair
            text = f"is not valid JSON ({faults[0]['msg']})"
        else:
            text = explain(ModelSpec, error)
        raise ModelError(f"{path}: {text}.", hint=AS_TRAINED) from error
    _check_use(spec, path)
    # Files that were written until November 2026 contain settings that suit one machine only.
    return spec.changed(model=portable_model(spec.model), prediction=spec.prediction.portable)


def portable_model(settings: ModelSettings) -> ModelSettings:
    """Return a model's settings with defaults for those that suit one machine only."""
    return settings.portable if isinstance(settings, NcaModelSettings) else settings


def strange_labels(settings: PredictionSettings, labels: LabelTable) -> str | None:
    """Return a message on a name in ``prediction.largest`` that is no label; None if all are."""
    known = (*labels.names, MERGED)
    for name in settings.kept_labels:
        if name not in known:
            return f"prediction.largest: {unknown('label', name, known)}"
    return None


def _check_use(spec: ModelSpec, path: Path) -> None:
    """Check settings whose faults would otherwise show only when the model is used."""
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
