"""The options of a regression, and the facts that a model has to know of its data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from medseg_nca.config import PreprocessPlan, Settings
from medseg_nca.config.bounds import MAX_CHANNELS, Name
from medseg_nca.config.data import SplitSettings
from medseg_nca.config.explain import explain
from medseg_nca.config.training import PredictionSettings
from medseg_nca.datasets.splits import Split
from medseg_nca.errors import ModelError
from medseg_nca.inference.spec import AS_TRAINED, SPEC
from medseg_nca.inference.task_model import TaskSpec

TASK_NAME = "regression"
Transform = Literal["none", "log"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Size = Annotated[
    tuple[Annotated[int, Field(ge=16, le=512)], ...], Field(min_length=2, max_length=3)
]


class PhantomOptions(Settings):
    """The options of the made-up data set.

    cases: number of cases. seed: seed of the generator. dims: 2 for pictures with their depth, 3
    for volumes with a distance map. size: voxels along each axis; None takes a small default.
    """

    cases: int = Field(80, ge=3, le=10_000)
    seed: int = Field(0, ge=0, lt=2**31)
    dims: Literal[2, 3] = 2
    size: Size | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.size is not None and len(self.size) != self.dims:
            raise ValueError(f"size must have {self.dims} numbers")
        return self


class RegressionOptions(Settings):
    """The section ``options`` of a run.

    loss: loss of the standardised values, where the target is known: "l1" is their mean absolute
    error, "mse" their mean squared error, "huber" is squared below ``huber_delta`` standard
    deviations and linear beyond. transform: "log" learns the logarithm, so that relative errors
    count; targets must then be positive. unknown: the number that marks an unknown target, besides
    NaN; None takes what the data set says. few_values: accept targets that hold few whole numbers,
    which are otherwise refused because they look like label maps. data: "phantom" makes a data set
    in the run folder if none is given. phantom: options of that data set.
    """

    loss: Literal["l1", "huber", "mse"] = "huber"
    huber_delta: float = Field(0.5, gt=0, le=100)
    transform: Transform = "none"
    unknown: Finite | None = None
    few_values: bool = False
    data: Literal["given", "phantom"] = "given"
    phantom: PhantomOptions = PhantomOptions()


class TargetFacts(Settings):
    """Statistics of one target channel, over all known voxels of the training.

    name: name of the target. mean, sd: mean and standard deviation after the transform, as the
    network learns the target. average, spread: mean and standard deviation of the target itself, in
    its unit; the constant predictor answers ``average``. low, high: smallest and largest value.
    """

    name: Name
    mean: Finite
    sd: float = Field(gt=0, allow_inf_nan=False)
    average: Finite
    spread: float = Field(gt=0, allow_inf_nan=False)
    low: Finite
    high: Finite

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}")
        return self


class RegressionFacts(Settings):
    """The section ``facts`` of ``model.json``: what decides an answer besides the weights.

    plan: the preprocessing. targets: statistics of each target. transform, unknown: as in the
    options. unit: unit of the targets. prediction: prediction settings. split: settings by which
    the data were divided; None if a file named the sides. listed: the sides that a file named.
    """

    plan: PreprocessPlan
    targets: Annotated[tuple[TargetFacts, ...], Field(min_length=1, max_length=MAX_CHANNELS)]
    transform: Transform = "none"
    unit: str = Field("", max_length=20)
    unknown: Finite | None = None
    prediction: PredictionSettings = PredictionSettings()
    split: SplitSettings | None = None
    listed: Split | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [target.name for target in self.targets]
        if len(set(names)) != len(names):
            raise ValueError(f"targets must have names of their own, got {names}")
        if self.transform == "log" and any(target.low <= 0 for target in self.targets):
            raise ValueError("transform is log, and a target's low is not above 0")
        if any(axis >= self.plan.dims for axis in self.prediction.flip_axes):
            raise ValueError(f"prediction.flips must be axes from 0 to {self.plan.dims - 1}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the target channels."""
        return tuple(target.name for target in self.targets)

    @property
    def log_bounds(self) -> tuple[tuple[float, float], ...]:
        """The bounds within which the logarithm of an answer is kept, for each channel.

        They reach from a tenth of the smallest target of the training to ten times the largest.
        Beyond them, the exponential of a wrong answer could be infinite.
        """
        return tuple(
            (math.log(t.low) - math.log(10), math.log(t.high) + math.log(10)) for t in self.targets
        )


def facts_of(spec: TaskSpec, folder: Path) -> RegressionFacts:
    """Read the facts of a model, and check that they fit its network.

    Raises:
        ModelError: if a field is wrong; the message names it.
    """
    path = folder / SPEC
    try:
        facts = RegressionFacts.model_validate(spec.facts)
    except ValidationError as error:
        raise ModelError(
            f"{path}: facts: {explain(RegressionFacts, error)}.", hint=AS_TRAINED
        ) from error
    model = spec.model
    for name, said, needed in (
        ("dims", model.dims, facts.plan.dims),
        ("in_channels", model.in_channels, facts.plan.in_channels),
        ("out_channels", model.out_channels, len(facts.targets)),
    ):
        if said != needed:
            raise ModelError(
                f"{path}: model.{name} is {said}, and facts need {needed}.", hint=AS_TRAINED
            )
    # Files that were written until November 2026 contain settings that suit one machine only.
    return facts.changed(prediction=facts.prediction.portable)
