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

# Shared memory that one block may have, CUDA C++ Programming Guide, "Compute Capabilities".
SHARED = {80: 163 * 1024, 90: 227 * 1024}
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


def check(found: list[dict[str, Any]]) -> None:
    for one in found:
        assert one["spilled"] == 0, one
        assert one["shared"] <= SHARED[one["case"]["arch"]], one


@pytest.mark.parametrize("arch", SHARED)
def test_a_volume_of_the_presets_fits_the_chip(arch: int, tmp_path: Path) -> None:
    same = {"arch": arch, "cell": cell(), "shape": VOLUME}
    found = resources([{**same, "kernel": kernel} for kernel in KERNELS], tmp_path)
    assert len(found) == len(KERNELS)
    check(found)
