"""Wounds: which cells of a grid are cut off."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from medseg_nca.tasks.generation.options import Wound


def random_damage(shape: Sequence[int], number: int) -> Tensor:
    """Return which cells stay, bool ``(*shape)``, with a wound that ``number`` decides.

    Half of the wounds are discs (balls in 3D), whose radius is an eighth to a third of the shortest
    side; the others are half-spaces, whose border passes the middle by at most a quarter of a side.
    """
    rng = random.Random(number)
    short = min(shape)
    if rng.random() < 0.5:
        centre = [n * rng.uniform(0.25, 0.75) for n in shape]
        return _distances(shape, centre) > short * rng.uniform(1 / 8, 1 / 3)
    direction = [rng.gauss(0, 1) for _ in shape]
    length = math.hypot(*direction) or 1.0
    limit = short * rng.uniform(-0.25, 0.25)
    return _along(shape, [d / length for d in direction]) < limit


def fixed_damage(target: Tensor, wound: Wound) -> Tensor:
    """Return which cells stay, bool ``(*shape)``, with a wound that is always the same.

    Args:
        target: alpha of what is grown ``(*shape)``, which says where the wound lies.
        wound: "disc" cuts a ball of a quarter of the shortest side out of the middle, "half" cuts
            the second half of the first axis off, "corner" the first half of every axis.
    """
    shape = tuple(target.shape)
    keep = torch.ones(shape, dtype=torch.bool)
    if wound == "none":
        return keep
    places = (target > 0.1).nonzero()
    low, high = places.amin(0).tolist(), (places.amax(0) + 1).tolist()
    middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
    if wound == "disc":
        short = min(b - a for a, b in zip(low, high, strict=True))
        stays: Tensor = _distances(shape, middle) > short / 4
        return stays
    if wound == "half":
        keep[math.floor(middle[0]) :] = False
        return keep
    keep[tuple(slice(0, math.ceil(m)) for m in middle)] = False
    return keep


def _distances(shape: Sequence[int], centre: Sequence[float]) -> Tensor:
    """How far the middle of each cell is from a point."""
    total = torch.zeros(tuple(shape))
    for axis, (size, place) in enumerate(zip(shape, centre, strict=True)):
        steps = torch.arange(size) + 0.5 - place
        total = total + steps.square().view(-1, *[1] * (len(shape) - axis - 1))
    return total.sqrt()


def _along(shape: Sequence[int], direction: Sequence[float]) -> Tensor:
    """How far the middle of each cell is from the middle of the grid in a direction."""
    total = torch.zeros(tuple(shape))
    for axis, (size, part) in enumerate(zip(shape, direction, strict=True)):
        steps = torch.arange(size) + 0.5 - size / 2
        total = total + part * steps.view(-1, *[1] * (len(shape) - axis - 1))
    return total
