"""Automata whose rule is written by hand, so that it is known where they settle."""

from __future__ import annotations

import math

import numpy as np
import torch

from medseg_nca.config.model import CellSettings, UpdateSettings
from medseg_nca.nca import Cell, Fire
from medseg_nca.nca.engines import get_engine
from medseg_nca.nca.start import RollOutStart


def affine_cell(matrix: list[list[float]], constant: tuple[float, float], rate: float) -> Cell:
    """A cell with two hidden channels ``h`` that change by ``matrix h + constant`` in a step.

    Two units of the rule's hidden layer pass on each channel, ``relu(h) - relu(-h) = h``.
    """
    update = UpdateSettings(hidden=5, norm="none")
    cell = Cell(CellSettings(channels=3, update=update, fire_rate=rate), 1, 2)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        for channel in range(2):
            cell.update.hidden.weight[2 * channel, 1 + channel] = 1
            cell.update.hidden.weight[2 * channel + 1, 1 + channel] = -1
            for out in range(2):
                cell.update.output.weight[out, 2 * channel] = matrix[out][channel]
                cell.update.output.weight[out, 2 * channel + 1] = -matrix[out][channel]
        cell.update.hidden.bias[4] = 1
        cell.update.output.weight[:, 4] = torch.tensor(constant)
    return cell


def start_of(
    matrix: list[list[float]],
    constant: tuple[float, float] = (0.0, 0.0),
    rate: float = 1.0,
    steps: int = 4,
) -> RollOutStart:
    """A roll-out of such a cell on 6 x 5 cells, from values about 1."""
    cell = affine_cell(matrix, constant, rate)
    values = np.random.default_rng(0).uniform(0.5, 1.5, (2, 3, 6, 5)).astype(np.float32)
    fire = Fire.for_batch(rate, seed=3, batch=2)
    return RollOutStart(get_engine("reference"), cell, torch.from_numpy(values), fire, steps)


def turning(steps: int) -> list[list[float]]:
    """The matrix by which a vector changes that turns once in so many steps."""
    cos, sin = math.cos(2 * math.pi / steps), math.sin(2 * math.pi / steps)
    return [[cos - 1, -sin], [sin, cos - 1]]


def scaling(factor: float) -> list[list[float]]:
    """The matrix by which a vector changes that is multiplied by a factor in every step."""
    return [[factor - 1, 0.0], [0.0, factor - 1]]


STILL = [[0.0, 0.0], [0.0, 0.0]]
