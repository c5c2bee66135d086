"""The settings of the task generation: ``options`` of a run, and those of its predictions."""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medseg_nca.config import Settings
from medseg_nca.config.bounds import MAX_STEPS, Intensity, Name, PlainName

EMBLEM = "emblem"
MAX_TARGETS = 64
MAX_GRID = 1024
# Cells of a grid: what fits into a training step on an ordinary machine.
MAX_CELLS = 2**18
Axis = Annotated[int, Field(ge=1, le=MAX_GRID)]
Share = Annotated[float, Field(ge=0, le=1)]
# Targets are a one each; what is far from them only breaks the growth.
_Gene = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]
_Row = tuple[Intensity, Intensity, Intensity, Intensity]
Wound = Literal["none", "disc", "half", "corner"]
WOUNDS: tuple[Wound, ...] = ("disc", "half", "corner")


class GenerationOptions(Settings):
    """What is grown, from what, and how the pool of states is kept.

    target: "emblem", which is drawn in code, a picture with an alpha channel, or a volume. targets:
    several of them in place of ``target``; each gets an entry of the genome. grid: cells an axis;
    None is the target with a margin of an eighth. size: longest side of a drawn emblem in cells.
    seeds: places of the living cells that growth begins with, as shares of the grid; none is one
    cell in the middle. genome: "channels" shows the genome to every cell, in channels that never
    change; "seed" writes it into the first hidden channels of the seed only. pool: how many states
    training keeps. damaged: how many samples of a batch are damaged before their steps, the best
    ones. reseed: how many are replaced by the seed, the worst ones. normalise_gradients: divide the
    gradient of each parameter by its norm, as Growing NCA does.
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
        """Everything that is to be grown."""
        return self.targets or (self.target,)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.targets and "target" in self.model_fields_set and self.target != EMBLEM:
            raise ValueError("give target or targets, not both")
        if len(set(self.names)) != len(self.names):
            raise ValueError("targets must name each target once")
        return self


class GenerationFacts(Settings):
    """``facts`` of ``model.json``: what the weights do not say of what is grown.

    targets: their names, which become names of files. grid: cells an axis. visible: channels that
    are seen, alpha the last: 4 of pictures, 2 of volumes. affine: of the grid of volumes, voxel
    index to RAS+ mm, as four rows.
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
    """How a trained automaton is grown.

    steps: None takes the mean of the trained ones. target: name or number of one of several; None
    grows all of them. genome: in place of a target, a number for each, which may mix them. count:
    how many are grown, each with fire masks of its own, from ``seed`` on. damage: what is cut off
    after ``damage_at`` of the steps (half of them if None). scale: pixels a cell in the pictures.
    animation: also write a GIF. frames: the most of an animation.
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
    """times: lengths of growth, in trained steps. count: fire seeds a target. seed: the first."""

    times: Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(min_length=1)] = (
        1,
        10,
        50,
    )
    count: int = Field(3, ge=1, le=256)
    seed: int = Field(0, ge=0, lt=2**63)
    animation: bool = True
