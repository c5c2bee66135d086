"""Kernels of the GPU engine compiled for chips that need not be here: sm_80 (A100), sm_90 (H100).

A kernel that needs more shared memory than the chip has does not start; one whose registers spill
to memory is slow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.nca.cells import every_kernel

# Shared memory that one block may have, CUDA C++ Programming Guide, "Compute Capabilities".
SHARED = {80: 163 * 1024, 90: 227 * 1024}
# What those that spill a little may spill, for each thread; 8 to 48 bytes were seen.
FEW_BYTES = 64
KERNELS = ("step", "back_rule", "back_perception", "fold")
PROGRAM = Path(__file__).with_name("compile_kernels.py")
VOLUME, PLANE = [64, 64, 64], [256, 256]
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def cell(
    channels: int = 16, hidden: int = 64, padding: str = "reflect", norm: str = "none",
    activation: str = "relu", **perception: Any,
) -> dict[str, Any]:  # fmt: skip
    return {
        "channels": channels,
        "perception": {"padding": padding, **perception},
        "update": {"hidden": hidden, "norm": norm, "activation": activation},
    }


def resources(cases: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """What each kernel needs of its chip; compiled in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(folder)
    call = [sys.executable, str(PROGRAM), json.dumps(cases)]
    done = subprocess.run(call, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def spills(case: dict[str, Any]) -> bool:
    """Whether a kernel is one of the four that spill a few bytes on sm_80."""
    if case["arch"] != 80:
        return False
    seen = case["cell"]["perception"]
    if case["kernel"] == "back_rule":
        return seen.get("kind") == "conv" or case.get("precision") == "bfloat16"
    far = seen.get("kernel") == 7 or case.get("dtype") == "float64"
    return case["kernel"] == "back_perception" and far


def check(found: list[dict[str, Any]]) -> None:
    for one in found:
        assert one["spilled"] <= (FEW_BYTES if spills(one["case"]) else 0), one
        assert one["shared"] <= SHARED[one["case"]["arch"]], one


@pytest.mark.parametrize("arch", SHARED)
def test_a_volume_of_the_presets_fits_the_chip(arch: int, tmp_path: Path) -> None:
    same = {"arch": arch, "cell": cell(), "shape": VOLUME}
    found = resources([{**same, "kernel": kernel} for kernel in KERNELS], tmp_path)
    assert len(found) == len(KERNELS)
    check(found)


WIDE = cell(32, 128, "zero", "rms", "silu", filters=2)
MOST = cell(32, 128, kind="conv", filters=2)
MIXED = cell(16, 128, kind="conv", filters=2)
FAR = cell(16, 64, "reflect", "batch", kernel=7)
ODD = cell(19, 34, "circular", activation="gelu", kernel=7)
FIXED = cell(19, 34, "reflect", activation="leaky_relu", kind="sobel_laplace")
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "two filters, 128 hidden units": [
        {"kernel": name, "cell": WIDE, "shape": PLANE} for name in KERNELS[:3]
    ],
    "128 hidden units, products of tf32": [
        {"kernel": name, "cell": WIDE, "shape": PLANE, "precision": "tf32"} for name in KERNELS[:2]
    ],
    "full convolutions": [{"kernel": name, "cell": MIXED, "shape": PLANE} for name in KERNELS[:3]],
    "the most features": [{"kernel": name, "cell": MOST, "shape": PLANE} for name in KERNELS[:3]],
    "a batch norm": [
        {"kernel": name, "cell": FAR, "shape": VOLUME, "measure": measure}
        for name in KERNELS[:2]
        for measure in (True, False)
    ],
    "a kernel of 7": [{"kernel": "back_perception", "cell": FAR, "shape": VOLUME}],
    "float64": [
        {"kernel": name, "cell": cell(), "shape": VOLUME, "dtype": "float64",
         "precision": "float64"}
        for name in KERNELS
    ],
    "bfloat16": [{"kernel": "step", "cell": cell(), "shape": VOLUME, "dtype": "bfloat16"}],
    "products of bfloat16": [
        {"kernel": name, "cell": cell(), "shape": VOLUME, "precision": "bfloat16"}
        for name in KERNELS[:3]
    ],
    "products of tf32": [
        {"kernel": name, "cell": cell(), "shape": VOLUME, "precision": "tf32"}
        for name in KERNELS[:3]
    ],
    "a border wider than the grid": [
        {"kernel": "step", "cell": ODD, "shape": [3, 5, 4], "mode": "mean", "awake": True}
    ],
    "fixed filters": [{"kernel": name, "cell": FIXED, "shape": VOLUME} for name in KERNELS[:2]],
}  # fmt: skip


@every_kernel
@pytest.mark.slow
@pytest.mark.parametrize("arch", SHARED)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_fits_the_chip(arch: int, variant: str, tmp_path: Path) -> None:
    check(resources([{"arch": arch, **case} for case in VARIANTS[variant]], tmp_path))
