"""Compile kernels of the GPU engine for a chip that need not be here; one JSON line for each.

    python compile_kernels.py CASES

``CASES`` is JSON: a list of ``{"arch": 80, "kernel": "step", "cell": {...}, ...}``, see
:func:`compiled`. It runs in a process of its own, because Triton decides when it is imported
whether kernels are compiled or interpreted.
"""

from __future__ import annotations

import json
import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from medseg_nca.config.model import CellSettings
from medseg_nca.nca import Cell, Fire
from medseg_nca.nca.gpu import plan, run, training

_TYPES = {
    torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16", torch.int32: "*i32",
    torch.uint8: "*u8",
}  # fmt: skip


def compiled(case: dict[str, Any]) -> dict[str, Any]:
    """Compile one kernel as a roll-out would start it, and return what it needs of the chip.

    Args:
        case: ``arch`` (80 or 90); ``kernel`` ("step", "back_rule", "back_perception" or "fold");
            ``cell``: settings of the cell; ``shape``: cells an axis; ``dtype`` of the state,
            ``precision`` of products, ``mode`` of the mask, ``awake``, and ``measure`` for the pass
            that measures for a batch norm, if not the default.
    """
    settings = CellSettings.model_validate(case["cell"])
    cell = Cell(settings, 1, len(case["shape"]))
    dtype = getattr(torch, case.get("dtype", "float32"))
    state = torch.zeros(1, cell.channels, *case["shape"], dtype=dtype)
    cell = cell.to(torch.float64 if dtype == torch.float64 else torch.float32)
    awake = torch.ones(1, *case["shape"], dtype=torch.bool) if case.get("awake") else None
    fire = Fire(0.5, (1,), mode=case.get("mode", "sample"), awake=awake)
    measure = case.get("measure", False)
    for kernel, arguments, warps, constants in _starts(cell, state, fire, case):
        name = kernel.fn.__name__.removeprefix("_")
        if name == case["kernel"] and constants.get("MEASURE", False) == measure:
            found = _compile(kernel, arguments, warps, constants, case["arch"])
            return {"case": case, **found}
    raise LookupError(f"no kernel {case['kernel']} was started")


def _starts(cell: Cell, state: torch.Tensor, fire: Fire, case: dict[str, Any]) -> list[Any]:
    """What a roll-out of one step, and its backward pass, would start; nothing is computed."""
    seen: list[Any] = []

    def note(kernel: Any, _: Any, *arguments: Any, warps: int, **constants: Any) -> None:
        seen.append((kernel, arguments, warps, constants))

    run.launch = training.launch = note
    with torch.no_grad():
        rollout = run.GpuRollout(cell, state, fire, 1, case.get("precision", "tf32x3"))
        states = rollout.empty(2)
        rollout.forward(states)
        if state.dtype != torch.bfloat16:
            training.GpuBackward(rollout, states).gradients(state)
    return seen


def _compile(
    kernel: Any, arguments: tuple[Any, ...], warps: int, constants: dict[str, Any], arch: int
) -> dict[str, Any]:
    signature: dict[str, str] = {}
    aligned: dict[tuple[int], Any] = {}
    for place, (name, value) in enumerate(zip(kernel.arg_names, arguments, strict=False)):
        if isinstance(value, torch.Tensor):
            signature[name] = _TYPES[value.dtype]
            aligned[place,] = [["tt.divisibility", 16]]
        else:
            signature[name] = "i32"
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, signature, constants, aligned)
    target = GPUTarget("cuda", arch, 32)
    triton.knobs.compilation.always_compile = True
    triton.knobs.nvidia.dump_ptxas_log = True
    options = {"num_warps": warps, "num_stages": plan.STAGES}
    with redirect_stdout(StringIO()) as log:
        made = triton.compile(source, target=target, options=options)
    return {"shared": made.metadata.shared, **_resources(log.getvalue())}


def _resources(log: str) -> dict[str, int]:
    """Registers a thread, and bytes that do not fit into them, from what the assembler said."""
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    return {
        "spilled": sum(int(stores) + int(loads) for stores, loads in spills),
        "registers": max(map(int, re.findall(r"Used (\d+) registers", log))),
    }


def main() -> None:
    """Compile every case."""
    for case in json.loads(sys.argv[1]):
        sys.stdout.write(json.dumps(compiled(case)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
