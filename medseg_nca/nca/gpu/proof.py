"""A check of the kernels before their first use: a small roll-out, against the reference engine.

``python -m medseg_nca.nca.gpu.proof DEVICE DTYPE GRADIENTS PRECISION`` prints the result of
:func:`disagreement` as JSON.
"""

from __future__ import annotations

import copy
import json
import sys
import threading
from functools import cache

import torch
from torch import Tensor

from medseg_nca.errors import NonFiniteStateError
from medseg_nca.nca.cell import Cell
from medseg_nca.nca.engines import reference
from medseg_nca.nca.fire import Fire
from medseg_nca.nca.gpu.training import compute
from medseg_nca.nca.kernels.proof import example, relative

_STEPS, _CHANNELS, _HIDDEN = 2, 16, 64
# Largest difference allowed, as a share of the largest value: some ten times what rounding makes,
# and far less than any defect.
_TOLERANCE = {
    "float64": 1e-9, "tf32x3": 1e-3, "ieee": 1e-3, "tf32": 2e-2, "bfloat16": 1e-1,
    "bfloat16 as float32": 1e-1,
}  # fmt: skip
_STORED_TOLERANCE = 3e-2
_lock = threading.Lock()


@cache
def disagreement(
    device: torch.device, dtype: torch.dtype, gradients: bool, precision: str
) -> str | None:
    """Return why the kernels cannot be trusted on a device; None if they can.

    Args:
        device: where the kernels compute.
        dtype: of the state.
        gradients: whether gradients are compared too.
        precision: of the matrix products, see ``precision_of`` in
            :mod:`medseg_nca.nca.gpu.run`.
    """
    allowed = max(_TOLERANCE[precision], _STORED_TOLERANCE if dtype == torch.bfloat16 else 0.0)
    try:
        with (
            _lock,
            torch.inference_mode(False),
            torch.set_grad_enabled(gradients),
            torch.device("cpu"),
        ):
            name, worst = _worst(device, dtype, gradients, precision)
    except NonFiniteStateError:
        return "a small roll-out is NaN or infinite here, and the reference's is not"
    except Exception as error:  # a driver or a compiler that does not fit may raise anything
        reason = (str(error).splitlines() or [""])[0]
        return f"a small roll-out failed: {type(error).__name__}: {reason}"
    if worst <= allowed:
        return None
    return (
        f"the {name} of a small roll-out differs from the reference's by {worst:.1e} of its "
        f"largest value; {allowed:.0e} is allowed"
    )


def _worst(
    device: torch.device, dtype: torch.dtype, gradients: bool, precision: str
) -> tuple[str, float]:
    """What differs most from the reference, and by how much."""
    number = torch.float32 if dtype == torch.bfloat16 else dtype
    cell, state = example("rms", "depthwise", number, channels=_CHANNELS, hidden=_HIDDEN)
    fire = Fire.for_batch(0.5, 1, state.shape[0])
    there = copy.deepcopy(cell).to(device)
    moved = state.detach().to(device, dtype).requires_grad_(gradients)
    actual = compute(there, moved, _STEPS, fire, precision=precision)
    if dtype != torch.bfloat16:
        cell, state = cell.double(), state.detach().double().requires_grad_()
    expected = reference.ENGINE.roll_out(cell, state.to(cell_type(cell, dtype)), _STEPS, fire)
    pairs: list[tuple[str, Tensor, Tensor]] = [("state", expected, actual)]
    if gradients:
        names = ("gradient of the state", *(f"gradient of {n}" for n, _ in cell.named_parameters()))
        wanted = torch.autograd.grad(expected.square().sum(), (state, *cell.parameters()))
        got = torch.autograd.grad(actual.square().sum(), (moved, *there.parameters()))
        pairs += zip(names, wanted, got, strict=True)
    found = [(relative(a.detach().double(), b.detach().double().cpu()), n) for n, a, b in pairs]
    worst, name = max(found)
    return name, worst


def cell_type(cell: Cell, dtype: torch.dtype) -> torch.dtype:
    """The type of state that the reference computes for comparison."""
    return dtype if dtype == torch.bfloat16 else next(cell.parameters()).dtype


def main() -> None:
    """Entry point of the process that checks."""
    device, dtype, gradients, precision = sys.argv[1:]
    reason = disagreement(torch.device(device), getattr(torch, dtype), gradients == "1", precision)
    sys.stdout.write(json.dumps(reason) + "\n")


if __name__ == "__main__":
    main()
