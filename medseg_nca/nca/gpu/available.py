"""Whether the kernels can be used on a device: what is installed, and a check before first use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import torch

# The oldest compute capability the kernels are compiled for in the tests (A100).
LEAST_CAPABILITY = (8, 0)
# Triton's major and minor version that comes with the oldest torch that the package allows.
_LEAST_TRITON = (3, 4)
# Kernels are compiled in this time too, unless Triton has them on disk.
_SECONDS = 300


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
    numbers = re.match(r"(\d+)\.(\d+)", installed)
    if numbers is None or tuple(map(int, numbers.groups())) < _LEAST_TRITON:
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
    with gradients and without, is preceded by :func:`checked_apart`.

    Args:
        device: where the states are.
        dtype: of the states.
        gradients: whether gradients are compared too.
    """
    if (reason := missing(device)) is not None or device.type != "cuda":
        return reason
    from medseg_nca.nca.gpu.run import precision_of

    return checked_apart(device, dtype, gradients, precision_of(dtype, device.type))


@cache
def checked_apart(
    device: torch.device, dtype: torch.dtype, gradients: bool, precision: str
) -> str | None:
    """Compare a small roll-out with the reference engine, in a process of its own.

    A kernel that reads where it may not spoils the device for the rest of its process, and one that
    never ends would hang it. The arguments and the result are those of
    :func:`medseg_nca.nca.gpu.proof.disagreement`.
    """
    what = [str(device), str(dtype).removeprefix("torch."), str(int(gradients)), precision]
    call = [sys.executable, "-P", "-m", "medseg_nca.nca.gpu.proof", *what]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            call, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"a small roll-out took longer than {_SECONDS} s"
    except OSError as error:
        return f"no process could be started to check it: {error}"
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = (done.stderr.splitlines() or ["it said nothing"])[-1]
        return f"the process that checked it ended with code {done.returncode}: {said}"
    reason: str | None = json.loads(lines[-1])
    return reason
