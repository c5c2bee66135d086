"""A small roll-out that the compiled loops compute before their first use in a process.

A library that was damaged, or that a processor does not run as it should, would train a model into
nothing without an error. Some milliseconds show that it computes what the reference does.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from medseg_nca.config.model import CellSettings, PerceptionSettings, UpdateSettings
from medseg_nca.errors import NonFiniteStateError
from medseg_nca.nca.cell import Cell
from medseg_nca.nca.engines import reference
from medseg_nca.nca.fire import Fire
from medseg_nca.nca.kernels.library import UnusableLibraryError, library

# Sizes with which tiles of two vectors and of one are computed, whatever the vectors' width.
_STEPS, _CHANNELS, _HIDDEN, _SHAPE = 2, 34, 34, (9, 5, 7)
# Largest difference, as a share of the largest value: far above rounding, far below any defect.
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 3e-2}
# torch's generator is set and restored meanwhile.
_lock = threading.Lock()


@cache
def unusable(dtype: torch.dtype, gradients: bool) -> str | None:
    """Why states of this type cannot be computed by the compiled loops; None if they can.

    The proof is made once in a process for each type, with gradients or without.
    """
    try:
        name = library().variant
    except UnusableLibraryError as error:
        return str(error)
    with (
        _lock,
        torch.inference_mode(False),
        torch.set_grad_enabled(gradients),
        torch.autocast("cpu", enabled=False),
        torch.device("cpu"),
    ):
        wrong = _difference(dtype, gradients) > _TOLERANCE[dtype]
    what = "gradients" if gradients else "states"
    return f"its {name} code computes other {what} than the reference here" if wrong else None


def _difference(dtype: torch.dtype, gradients: bool) -> float:
    """The largest relative difference of a state or a gradient; NaN counts as infinite."""
    from medseg_nca.nca.kernels.run import compute

    worst = 0.0
    examples: tuple[tuple[Literal["rms", "batch"], Literal["depthwise", "conv"]], ...]
    examples = (("rms", "depthwise"), ("batch", "conv"))
    for norm, kind in examples:
        cell, state = _example(norm, kind, torch.float32 if dtype == torch.bfloat16 else dtype)
        state, fire = state.to(dtype), Fire.for_batch(0.5, 1, 1)
        expected = reference.ENGINE.roll_out(cell, state, _STEPS, fire)
        try:
            actual = compute(cell, state, _STEPS, fire)
        except NonFiniteStateError:
            return float("inf")
        pairs = [(expected, actual)]
        if gradients:
            sources = (state, *cell.parameters())
            wanted, got = (
                torch.autograd.grad(x.square().sum(), sources) for x in (expected, actual)
            )
            pairs += zip(wanted, got, strict=True)
        worst = max(worst, *(_relative(a.detach().double(), b.detach().double()) for a, b in pairs))
    return worst


def _relative(expected: Tensor, actual: Tensor) -> float:
    # What a batch norm takes away again has no gradient; there is only rounding to compare.
    size = expected.abs().max().clamp_min(1.0)
    return float(((actual - expected).abs().max() / size).nan_to_num(nan=float("inf")))


def _example(
    norm: Literal["rms", "batch"], kind: Literal["depthwise", "conv"], dtype: torch.dtype
) -> tuple[Cell, Tensor]:
    """A cell with nothing zero, and a state; torch's own generator is left as it is."""
    update = UpdateSettings(hidden=_HIDDEN, norm=norm)
    perception = PerceptionSettings(kind=kind, padding="reflect")
    settings = CellSettings(channels=_CHANNELS, perception=perception, update=update)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cell = Cell(settings, 1, len(_SHAPE)).to(dtype)
        with torch.no_grad():
            for parameter in cell.parameters():
                parameter.normal_(std=0.1)
        state = torch.randn(1, _CHANNELS, *_SHAPE, dtype=dtype)
    return cell, state.requires_grad_()
