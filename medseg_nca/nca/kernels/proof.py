"""A check of the compiled loops: a small roll-out, compared before their first use in a process.

A damaged library, or one that the processor runs wrongly, would spoil a training without an
error. The check takes some milliseconds and shows that the loops compute what the reference
engine computes.
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

# With these sizes the loops compute blocks of two vectors and of one, whatever a vector's width.
_STEPS, _CHANNELS, _HIDDEN, _SHAPE = 2, 34, 34, (9, 5, 7)
# Largest difference allowed, as a share of the largest value: far more than rounding makes, far
# less than any defect.
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 3e-2}
# Held while torch's generator is seeded and restored, which is one generator for all threads.
_lock = threading.Lock()


@cache
def unusable(dtype: torch.dtype, gradients: bool) -> str | None:
    """Return why the compiled loops cannot be used for states of this type; None if they can.

    The check is made once in a process for each type, with gradients and without.

    Args:
        dtype: of the state: float32, float64 or bfloat16.
        gradients: whether gradients are compared too.
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
    """Return the largest relative difference of a state or a gradient; NaN counts as infinite."""
    from medseg_nca.nca.kernels.run import compute

    worst = 0.0
    examples: tuple[tuple[Literal["rms", "batch"], Literal["depthwise", "conv"]], ...]
    examples = (("rms", "depthwise"), ("batch", "conv"))
    for norm, kind in examples:
        cell, state = example(norm, kind, torch.float32 if dtype == torch.bfloat16 else dtype)
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
        worst = max(worst, *(relative(a.detach().double(), b.detach().double()) for a, b in pairs))
    return worst


def relative(expected: Tensor, actual: Tensor) -> float:
    """Return the largest difference as a share of the largest value; NaN counts as infinite."""
    # Weights whose effect a batch norm removes have a gradient of zero. What is computed for them
    # is rounding alone, which must not be divided by itself: hence the lower bound of 1.
    size = expected.abs().max().clamp_min(1.0)
    return float(((actual - expected).abs().max() / size).nan_to_num(nan=float("inf")))


def example(
    norm: Literal["rms", "batch"],
    kind: Literal["depthwise", "conv"],
    dtype: torch.dtype,
    channels: int = _CHANNELS,
    hidden: int = _HIDDEN,
) -> tuple[Cell, Tensor]:
    """Return a cell without zero weights and a state; torch's generator is left as it was."""
    update = UpdateSettings(hidden=hidden, norm=norm)
    perception = PerceptionSettings(kind=kind, padding="reflect")
    settings = CellSettings(channels=channels, perception=perception, update=update)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cell = Cell(settings, 1, len(_SHAPE)).to(dtype)
        with torch.no_grad():
            for parameter in cell.parameters():
                parameter.normal_(std=0.1)
        state = torch.randn(1, channels, *_SHAPE, dtype=dtype)
    return cell, state.requires_grad_()
