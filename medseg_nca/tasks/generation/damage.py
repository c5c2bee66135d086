"""Wounds that are always the same: those that a target gets in a validation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medseg_nca.nca.damage import distances
from medseg_nca.tasks.generation.options import Wound


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
        stays: Tensor = distances(shape, middle) > short / 4
        return stays
    if wound == "half":
        keep[math.floor(middle[0]) :] = False
        return keep
    keep[tuple(slice(0, math.ceil(m)) for m in middle)] = False
    return keep
