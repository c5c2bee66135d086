"""What the machine is, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from medseg_nca import __version__
from medseg_nca.benchmark.timing import Effort, run_times

# If more processes than this run or wait, the machine is too busy for figures that can be reported.
QUIET_LOAD = 0.5
_MATRIX, _GPU_MATRIX = 1024, 8192
_LEAST_RUNS = 5
_CPUINFO = Path("/proc/cpuinfo")
_VECTORS = re.compile(r"sse4_2|avx\w*|fma|f16c|amx_\w+|neon|asimd\w*|sve\w*")


def load_average() -> float | None:
    """Processes that ran or waited in the last minute, on average; None where nobody counts."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def describe(threads: int | None = None) -> dict[str, Any]:
    """Processor, memory and versions; ``threads`` is what will be used, torch's own by default."""
    info = _CPUINFO.read_text(encoding="utf-8") if _CPUINFO.exists() else ""
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return gpu | {
        "cpu": _field(info, "model name") or platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=False),
        "logical_cpus": os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "vector": _VECTORS.findall(_field(info, "flags|Features")),
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "versions": {"medseg_nca": __version__, "python": platform.python_version()}
        | {name: _version(name) for name in ("torch", "numpy", "monai")},
    }


def _field(info: str, name: str) -> str:
    """The first value of that name in ``/proc/cpuinfo``."""
    found = re.search(rf"^(?:{name})\s*:\s*(.+)$", info, re.MULTILINE)
    return found[1] if found else ""


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def sgemm_gflops(effort: Effort, device: str = "cpu") -> float:
    """The best rate of a product of two single-precision matrices, in GFLOP/s.

    They are 1024 x 1024, on a GPU 8192 x 8192.
    """
    torch.set_num_threads(effort.threads)
    size = _MATRIX if device == "cpu" else _GPU_MATRIX
    left, right = torch.rand(size, size, device=device), torch.rand(size, size, device=device)
    result = torch.empty(size, size, device=device)

    def multiply() -> None:
        torch.mm(left, right, out=result)
        if device != "cpu":
            torch.cuda.synchronize()

    multiply()
    times = run_times(multiply, Effort(effort.threads, repeats=_LEAST_RUNS))
    times += run_times(multiply, Effort(effort.threads, effort.seconds))
    return 2 * size**3 / min(times) / 1e9
