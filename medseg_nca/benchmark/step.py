"""Time and memory of some steps of one cell."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from medseg_nca.benchmark import textbook
from medseg_nca.benchmark.cases import Workload
from medseg_nca.benchmark.timing import Effort, measure
from medseg_nca.models.describe import flop_per_cell
from medseg_nca.nca import Cell, Fire, roll_out
from medseg_nca.nca.engines import Engine, get_engine

# A first roll-out on a small grid compiles and sets up what is needed once, so that its memory is
# not counted as that of a step.
_WARM_UP = 8
# A product of matrices has two in its backward pass. What an engine recomputes is not counted.
_PASSES = {"step": 1, "train": 3}
# This ending of an engine's name says that its state is kept in bfloat16.
BFLOAT16 = "-bfloat16"


def find_engine(name: str) -> Engine:
    """An engine by name, without what :data:`BFLOAT16` adds to it; "eager" is the textbook.

    Raises:
        ConfigError: if there is no engine of that name.
    """
    name = name.removesuffix(BFLOAT16)
    return textbook.ENGINE if name == textbook.NAME else get_engine(name)


def make_cell(case: Workload) -> Cell:
    """A cell whose update rule does something, unlike that of an untrained one."""
    torch.manual_seed(0)
    cell = Cell(case.settings, image_channels=1, dims=case.dims)
    torch.nn.init.normal_(cell.update.get_parameter("output.weight"), std=0.01)
    return cell


def flop_per_step(case: Workload) -> float:
    """Operations of one step: those of the cells that fire, on average."""
    return flop_per_cell(make_cell(case)) * prod(case.shape) * case.settings.fire_rate


def measure_steps(
    case: str, mode: str, engine: str, steps: int, effort: Effort, device: str = "cpu"
) -> dict[str, float]:
    """Measure one roll-out.

    Args:
        case: its name.
        mode: "step" is a roll-out in inference mode, "train" one with its backward pass.
        engine: who computes it; "eager" is the textbook.
        steps: of the roll-out.
        effort: how long to measure.
        device: "cpu" or "cuda".

    Returns:
        ``seconds`` and ``best_seconds`` a roll-out, ``repeats``, ``peak_mb``, ``flop`` a roll-out
        and ``cells``.

    Raises:
        ConfigError: if the engine does not serve the case.
    """
    torch.set_num_threads(effort.threads)
    parsed, chosen = Workload.parse(case), find_engine(engine)
    cell = make_cell(parsed).to(device)
    make = _training if mode == "train" else _inference
    kind = torch.bfloat16 if engine.endswith(BFLOAT16) else torch.float32
    small = _state(cell, (_WARM_UP,) * parsed.dims).to(device, kind)
    make(chosen, cell, small, min(steps, 2))()
    action = make(chosen, cell, _state(cell, parsed.shape).to(device, kind), steps)
    numbers = measure(action, effort, device)
    flop = flop_per_step(parsed) * steps * _PASSES[mode]
    return {**numbers, "flop": flop, "cells": prod(parsed.shape)}


def _state(cell: Cell, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(1, cell.channels, *shape)


def _fire(cell: Cell) -> Fire:
    return Fire.for_batch(cell.settings.fire_rate, seed=0, batch=1)


def _inference(engine: Engine, cell: Cell, state: Tensor, steps: int) -> Callable[[], None]:
    def action() -> None:
        with torch.inference_mode():
            roll_out(engine, cell, state, steps, _fire(cell))

    return action


def _training(engine: Engine, cell: Cell, state: Tensor, steps: int) -> Callable[[], None]:
    """The state needs a gradient too: in training it comes from the level before."""
    leaf = state.requires_grad_()

    def action() -> None:
        leaf.grad = None
        cell.zero_grad()
        loss = roll_out(engine, cell, leaf, steps, _fire(cell)).square().mean()
        torch.autograd.backward(loss)

    return action
