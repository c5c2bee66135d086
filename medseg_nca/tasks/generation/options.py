"""The options of the task generation: of a training, a prediction and an evaluation."""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medseg_nca.config import Settings
from medseg_nca.config.bounds import MAX_STEPS, Intensity, Name, PlainName

EMBLEM = "emblem"
MAX_TARGETS = 64
MAX_GRID = 1024
# The most cells of a grid, with which a training step fits into an ordinary machine.
MAX_CELLS = 2**18
Axis = Annotated[int, Field(ge=1, le=MAX_GRID)]
Share = Annotated[float, Field(ge=0, le=1)]
# The genome of a target holds a 1; a number that is far larger only breaks the growth.
_Gene = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]
_Row = tuple[Intensity, Intensity, Intensity, Intensity]
Wound = Literal["none", "disc", "half", "corner"]
WOUNDS: tuple[Wound, ...] = ("disc", "half", "corner")


class GenerationOptions(Settings):
    """The section ``options`` of a run: what is grown, and how the pool of states is kept.

    target: "emblem", which is drawn in code, a picture with an alpha channel, or a volume. targets:
    several targets in place of ``target``; each gets an entry of the genome. grid: number of cells
    along each axis; None takes the target with a margin of an eighth. size: longest side of a drawn
    emblem in cells. seeds: places of the living cells that growth begins with, as shares of the
    grid; none stands for one cell in the middle. genome: "channels" shows the genome to every cell,
    in channels that never change; "seed" writes it into the first hidden channels of the seed only.
    pool: number of states that training keeps. damaged: number of samples in a batch, the best
    ones, that are damaged before their steps. reseed: number of samples in a batch, the worst ones,
    that are replaced by the seed. normalise_gradients: divide the gradient of each parameter by its
    norm, as Growing NCA does.
    """

    target: Name = EMBLEM
    targets: Annotated[tuple[Name, ...], Field(max_length=MAX_TARGETS)] = ()
    grid: Axis | tuple[Axis, ...] | None = None
    size: int = Field(28, ge=8, le=MAX_GRID)
    seeds: Annotated[tuple[tuple[Share, ...], ...], Field(max_length=256)] = ()
    genome: Literal["channels", "seed"] = "channels"
    pool: int = Field(256, ge=1, le=65_536)
    damaged: int = Field(2, ge=0)
    reseed: int = Field(1, ge=1)
    normalise_gradients: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all targets."""
        return self.targets or (self.target,)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.targets and "target" in self.model_fields_set and self.target != EMBLEM:
            raise ValueError("give target or targets, not both")
        if len(set(self.names)) != len(self.names):
            raise ValueError("targets must name each target once")
        return self


class GenerationFacts(Settings):
    """The section ``facts`` of ``model.json``: what the weights do not tell about the targets.

    targets: names of the targets, which become names of files. grid: number of cells along each
    axis. visible: number of channels that are the picture, with alpha as the last: 4 for pictures,
    2 for volumes. affine: affine of the grid of volumes, voxel index to RAS+ mm, as four rows.
    """

    targets: Annotated[tuple[PlainName, ...], Field(min_length=1, max_length=MAX_TARGETS)]
    grid: Annotated[tuple[Axis, ...], Field(min_length=2, max_length=3)]
    visible: Literal[2, 4]
    affine: tuple[_Row, _Row, _Row, _Row]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.targets)) != len(self.targets):
            raise ValueError("targets must have names of their own")
        if prod(self.grid) > MAX_CELLS:
            raise ValueError(f"grid has {prod(self.grid)} cells; at most {MAX_CELLS} can be grown")
        return self


class PredictionOptions(Settings):
    """The options of a prediction: how a trained automaton grows.

    steps: number of steps; None takes the mean of the trained numbers. target: name or number of
    one target; None grows all targets. genome: in place of a target, one number for each target,
    which may mix them. count: number of growths of each target; they have the fire seeds ``seed``,
    ``seed`` + 1, and so on. damage: the wound that is cut after ``damage_at`` steps; None takes
    half of the steps. scale: pixels of a picture for each cell. animation: whether a GIF is written
    too. frames: the most frames of the GIF.
    """

    steps: int | None = Field(None, ge=1, le=MAX_STEPS * 10)
    target: Name | int | None = None
    genome: Annotated[tuple[_Gene, ...], Field(max_length=MAX_TARGETS)] | None = None
    count: int = Field(1, ge=1, le=256)
    seed: int = Field(0, ge=0, lt=2**63)
    damage: Wound = "none"
    damage_at: int | None = Field(None, ge=0)
    scale: int = Field(6, ge=1, le=64)
    animation: bool = True
    frames: int = Field(90, ge=2, le=600)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.genome is not None and self.target is not None:
            raise ValueError("give target or genome, not both")
        return self


class EvaluationOptions(Settings):
    """The options of an evaluation.

    times: lengths of growth, in multiples of the trained steps. count: number of fire seeds for
    each target. seed: the first fire seed. animation: whether the report has an animation.
    """

    times: Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(min_length=1)] = (
        1,
        10,
        50,
    )
    count: int = Field(3, ge=1, le=256)
    seed: int = Field(0, ge=0, lt=2**63)
    animation: bool = True
