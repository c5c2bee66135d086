"""Settings of training, evaluation, prediction and tracking."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from medseg_nca.config.auto import OrAuto
from medseg_nca.config.base import Settings
from medseg_nca.config.bounds import (
    MAX_LABELS,
    MAX_LEVELS,
    MAX_PASSES,
    MAX_STEP_FACTOR,
    MemoryGb,
    Name,
)
from medseg_nca.config.trust import GateSettings

# Axes of an image in array order.
Axes = tuple[Annotated[int, Field(ge=0, le=2)], ...]
StepFactor = Annotated[float, Field(gt=0, le=MAX_STEP_FACTOR, allow_inf_nan=False)]
# Labels by name, or "merged" for all of them as one.
LabelNames = Annotated[tuple[Name, ...], Field(max_length=MAX_LABELS + 1)]


class LossSettings(Settings):
    """A loss by name (``medseg_nca/losses``) and what it is told."""

    name: str = "dice_ce"
    params: dict[str, Any] = Field(default_factory=dict)


class GuardSettings(Settings):
    """When a training counts as diverged, and what is done about it.

    When ``patience`` batches in a row have a loss that is not finite, or above ``factor`` times the
    running mean, training goes back to the last good state with the learning rate times
    ``lr_factor``, at most ``max_rollbacks`` times. Fewer are hard batches: the model learns from
    them within ``training.clip``, and leaves out those without a finite loss. A gradient or a
    validation that is not finite counts as diverged at once.
    """

    factor: float = Field(5.0, gt=1)
    patience: int = Field(10, ge=1)
    max_rollbacks: int = Field(3, ge=0)
    lr_factor: float = Field(0.5, gt=0, le=1)


# Iterations, or below 1 a share of the training, by iterations or by time as this is followed.
Rhythm = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)]
Warmup = Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)]


class TrainingSettings(Settings):
    """The training loop.

    iterations: optimiser steps. With ``max_minutes`` training ends when either is reached, and the
    learning rate follows whichever is further on. validate_every, checkpoint_every, warmup: in
    iterations, or below 1 as a share of the training: 0.1 validates ten times. optimiser: "muon"
    takes Muon's steps for the matrices of a model and AdamW's for all else. validate_cases: how
    many at most; None validates all. validate_steps: multiples of the trained steps after which a
    segmentation is validated, the lowest Dice being the score, so that the weights are kept whose
    answer stays; () validates it as it is used. patience: validations without a better score before
    it stops early; None never does. workers: processes that prepare samples, besides the training
    itself. foreground: chance that a patch is centred on a voxel of a label, labels drawn evenly.
    overflow: weight of the penalty on state values outside [-``overflow_bound``, +...].
    """

    iterations: Annotated[int, OrAuto()] = Field(20_000, ge=1)
    max_minutes: float | None = Field(None, gt=0)
    batch_size: Annotated[int, OrAuto()] = Field(2, ge=1)
    optimiser: Annotated[Literal["muon", "adamw", "adam"], OrAuto()] = "adamw"
    lr: Annotated[float, OrAuto()] = Field(2e-3, gt=0, allow_inf_nan=False)
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["cosine", "exponential", "constant"] = "cosine"
    gamma: float = Field(0.9999, gt=0, le=1)
    warmup: Annotated[Warmup, OrAuto()] = 100
    ema: float | None = Field(0.995, gt=0, lt=1)
    clip: float | None = Field(1.0, gt=0)
    loss: LossSettings = LossSettings()
    foreground: float = Field(0.5, ge=0, le=1)
    overflow: float = Field(1e-3, ge=0)
    overflow_bound: float = Field(10.0, gt=0)
    validate_every: Annotated[Rhythm, OrAuto()] = 500
    validate_cases: Annotated[int | None, OrAuto()] = Field(None, ge=1)
    validate_steps: Annotated[tuple[StepFactor, ...], Field(max_length=16)] = ()
    patience: int | None = Field(None, ge=1)
    checkpoint_every: Annotated[Rhythm, OrAuto()] = 250
    log_every: int = Field(20, ge=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    workers: Annotated[int, OrAuto()] = Field(0, ge=0)
    threads: int | None = Field(None, ge=1)
    guard: GuardSettings = GuardSettings()

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out ``validate_steps`` where it is off: older versions can read the file."""
        tree: dict[str, Any] = write(self)
        return {key: value for key, value in tree.items() if value or key != "validate_steps"}


class EvaluationSettings(Settings):
    """``nsd_tolerance`` in mm; confidence intervals by ``bootstrap`` resamples of the cases."""

    nsd_tolerance: float = Field(1.0, gt=0)
    bootstrap: int = Field(2000, ge=0)
    confidence: float = Field(0.95, gt=0, lt=1)


class PredictionSettings(Settings):
    """How a trained model is run.

    flips: axes whose flips (all combinations) are averaged, at the price of a pass for each; with
    "auto" the validation at the end of a training decides whether these are the axes of
    ``augment.flip_axes`` or none, and the model keeps the decision. uncertainty: stochastic passes
    for an uncertainty map; 0 is none. seed: of the fire mask. fire: replaces the model's own.
    memory_budget_gb: what a prediction may take in all (10^9 bytes, above the loaded model); larger
    volumes are computed in tiles, or refused. precision: of an automaton's state and weights;
    bfloat16 halves the memory of the state. Both suit one machine: a trained model carries neither,
    and takes the defaults where nobody sets them. match_spacing: bring an image whose spacing is
    unlike the training's to that spacing. unlike: what becomes of an image that is then still
    unlike those of the training (coarser, of another size, turned otherwise): a warning, or a
    refusal. largest: labels of which only the largest connected part is kept, "merged" for all
    labels as one, which comes first; with "auto" the validation at the end of a training decides,
    and the model keeps the decision. step_factor: how many times its trained steps an automaton
    takes, all levels alike or a number for each level, coarse to fine; at least one step is taken.
    estimate: whether the quality of an answer is estimated, which takes up to twice the time of a
    plain answer besides. gate: what the verdict on an answer stands on.
    """

    OF_THE_MACHINE: ClassVar[frozenset[str]] = frozenset({"memory_budget_gb", "precision"})

    flips: Literal["auto"] | Axes = ()
    uncertainty: int = Field(0, ge=0, le=MAX_PASSES)
    seed: int = Field(0, ge=0, lt=2**63)
    fire: Literal["sample", "mean"] | None = None
    memory_budget_gb: MemoryGb = 4.0
    probabilities: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    match_spacing: bool = True
    unlike: Literal["warn", "refuse"] = "warn"
    largest: Literal["auto"] | LabelNames = "auto"
    step_factor: StepFactor | Annotated[tuple[StepFactor, ...], Field(max_length=MAX_LEVELS)] = 1.0
    estimate: bool = True
    gate: GateSettings = GateSettings()

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out younger settings at their defaults: older versions can read the file."""
        tree: dict[str, Any] = write(self)
        usual = {"step_factor": 1.0, "estimate": True, "gate": GateSettings().model_dump()}
        return {k: v for k, v in tree.items() if k not in usual or v != usual[k]}

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.flip_axes)) != len(self.flip_axes):
            raise ValueError(f"flips must name each axis once, got {self.flip_axes}")
        return self

    @property
    def portable(self) -> Self:
        """The settings that a model carries: those that suit one machine have their defaults."""
        defaults = {name: type(self).model_fields[name].default for name in self.OF_THE_MACHINE}
        return self.changed(**defaults)

    @property
    def flip_axes(self) -> tuple[int, ...]:
        """The axes of ``flips``; none where nothing is decided."""
        return () if isinstance(self.flips, str) else self.flips

    @property
    def kept_labels(self) -> tuple[str, ...]:
        """The labels of ``largest``; none where nothing is decided."""
        return () if isinstance(self.largest, str) else self.largest


class TrackingSettings(Settings):
    """MLflow: ``uri`` None takes MLFLOW_TRACKING_URI, else ``mlflow.db`` in the current folder.

    ``parent`` is the id of the run that a run is shown below, such as the search of a trial.
    """

    enabled: bool = True
    uri: str | None = None
    experiment: str = "medseg_nca"
    system_metrics: bool = True
    parent: str | None = None

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out ``parent`` where there is none, so that older versions can read the file."""
        tree: dict[str, Any] = write(self)
        return {key: value for key, value in tree.items() if value is not None or key != "parent"}
