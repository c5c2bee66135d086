"""Whether the kernels can be used on a device: what is installed, and a check before first use."""

from __future__ import annotations

import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import torch

# The oldest compute capability the kernels are compiled for in the tests (A100).
LEAST_CAPABILITY = (8, 0)
# Triton's major and minor version that comes with the oldest torch that the package allows.
_LEAST_TRITON = (3, 4)


def interpreter_asked_for() -> bool:
    """Whether ``TRITON_INTERPRET`` asks for the interpreter; imports nothing."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in {"1", "true", "on", "yes"}


@cache
def missing(device: torch.device) -> str | None:
    """Say what is missing for kernels on a device; None if nothing is.

    Nothing of Triton is imported.
    """
    try:
        installed = version("triton")
    except PackageNotFoundError:
        return "Triton is not installed"
    if tuple(int(part) for part in installed.split(".")[:2]) < _LEAST_TRITON:
        least = ".".join(map(str, _LEAST_TRITON))
        return f"Triton {installed} is too old ({least} is needed)"
    if device.type != "cuda":
        return None
    if interpreter_asked_for():
        return "TRITON_INTERPRET asks for the interpreter, which is for tests on the CPU"
    if torch.version.hip is not None:
        return "the kernels were never tried on AMD"
    found = torch.cuda.get_device_capability(device)
    if found < LEAST_CAPABILITY:
        name, least = torch.cuda.get_device_name(device), ".".join(map(str, LEAST_CAPABILITY))
        return f"{name} has compute capability {found[0]}.{found[1]} ({least} is needed)"
    return None


def unusable(device: torch.device, dtype: torch.dtype, gradients: bool) -> str | None:
    """Say why the kernels cannot be used for such states; None if they can.

    In each process the first use on a device, for each type of state and precision of products,
    with gradients and without, is preceded by a small roll-out that is compared with the reference
    engine on the CPU.

    Args:
        device: where the states are.
        dtype: of the states.
        gradients: whether gradients are compared too.
    """
    if (reason := missing(device)) is not None or device.type != "cuda":
        return reason
    from medseg_nca.nca.gpu.proof import disagreement
    from medseg_nca.nca.gpu.run import precision_of

    return disagreement(device, dtype, gradients, precision_of(dtype, device.type))
