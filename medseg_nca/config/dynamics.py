"""Settings of the probes that look at what an automaton does over time."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medseg_nca.config.base import Settings
from medseg_nca.config.bounds import MAX_STEP_FACTOR, MAX_STEPS

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Factor = Annotated[float, Field(gt=0, le=MAX_STEP_FACTOR, allow_inf_nan=False)]


class DynamicsSettings(Settings):
    """What ``medseg-nca dynamics`` looks at; sizes of holes and shifts are explained below.

    factors: times the trained steps at which the score is measured. each_level: also let one level
    at a time take other steps. watched: how long change and settling are watched, in times the
    trained steps of a level. least_watched: settling is watched for so many steps at least.
    tolerance: a cell has moved if one of its hidden values changed by more. bound: a hidden value
    beyond it overflows. still: share of its size within which a state counts as still. holes: edge
    of the boxes that are cut out, as a share of each axis. noise: standard deviations of the noise
    on the hidden channels. recovery: steps after the damage. angles: small turns in the plane of
    the first two axes, in degrees. shifts: in voxels. spacings: times the number of voxels of each
    axis. seeds: how many fire seeds are compared. seed: of everything random in the probes.
    """

    factors: tuple[Factor, ...] = Field((0.25, 0.5, 1.0, 2.0, 4.0, 8.0), min_length=1)
    each_level: bool = False
    watched: float = Field(8.0, gt=0, le=MAX_STEP_FACTOR)
    least_watched: int = Field(128, ge=8, le=MAX_STEPS)
    tolerance: Positive = 0.01
    bound: Positive = 10.0
    still: float = Field(0.01, gt=0, lt=1)
    holes: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.125, 0.25, 0.5)
    noise: tuple[Positive, ...] = (0.02, 0.1, 0.5)
    recovery: int = Field(12, ge=1, le=MAX_STEPS)
    angles: tuple[Annotated[float, Field(gt=-180, lt=180)], ...] = (-10.0, 10.0)
    shifts: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 4)
    spacings: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] = (0.8, 0.9, 1.1, 1.25)
    seeds: int = Field(5, ge=2, le=100)
    seed: int = Field(0, ge=0, lt=2**63)
