"""Damage that wounds a grid: which of its cells are cut off."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from medseg_nca.tasks.generation.options import Wound


def random_damage(shape: Sequence[int], number: int) -> Tensor:
    """Return which cells stay, bool ``(*shape)``, after a random wound drawn from ``number``.

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
    """Return which cells stay, bool ``(*shape)``, after a wound that is always the same.

    Args:
        target: alpha of the target ``(*shape)``; the wound lies where the target is.
        wound: "disc" cuts a disc (a ball in 3D) out of the middle, whose radius is a quarter of the
            target's shortest side; "half" cuts off the second half of the first axis; "corner" cuts
            off the part that is in the first half of every axis; "none" cuts nothing.
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
