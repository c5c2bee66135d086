"""Damage that wounds a grid: which of its cells are cut off."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor


def random_damage(shape: Sequence[int], number: int) -> Tensor:
    """Return which cells stay, bool ``(*shape)``, after a random wound drawn from ``number``.

    Half of the wounds are discs (balls in 3D), whose radius is an eighth to a third of the shortest
    side; the others are half-spaces, whose border passes the middle by at most a quarter of a side.
    """
    rng = random.Random(number)
    short = min(shape)
    if rng.random() < 0.5:
        centre = [n * rng.uniform(0.25, 0.75) for n in shape]
        return distances(shape, centre) > short * rng.uniform(1 / 8, 1 / 3)
    direction = [rng.gauss(0, 1) for _ in shape]
    length = math.hypot(*direction) or 1.0
    limit = short * rng.uniform(-0.25, 0.25)
    return _along(shape, [d / length for d in direction]) < limit


def distances(shape: Sequence[int], centre: Sequence[float]) -> Tensor:
    """Return how far the middle of each cell is from a point."""
    total = torch.zeros(tuple(shape))
    for axis, (size, place) in enumerate(zip(shape, centre, strict=True)):
        steps = torch.arange(size) + 0.5 - place
        total = total + steps.square().view(-1, *[1] * (len(shape) - axis - 1))
    return total.sqrt()


def _along(shape: Sequence[int], direction: Sequence[float]) -> Tensor:
    """Return how far the middle of each cell is from the middle of the grid in a direction."""
    total = torch.zeros(tuple(shape))
    for axis, (size, part) in enumerate(zip(shape, direction, strict=True)):
        steps = torch.arange(size) + 0.5 - size / 2
        total = total + part * steps.view(-1, *[1] * (len(shape) - axis - 1))
    return total
