"""benchmarks/gpu.py from end to end, in Triton's interpreter; its figures are not looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_it_compares_measures_and_trains(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    call = [sys.executable, str(repository / "benchmarks" / "gpu.py"), "--dry", "--json", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert all(row["agrees"] for row in result["differences"])
    assert not [row for row in result["rows"] if "error" in row]
    assert {row["engine"] for row in result["rows"]} >= {"eager", "reference", "triton"}
    reference, own = result["training"]
    assert own["last_loss"] == pytest.approx(reference["last_loss"], rel=1e-3)


def test_without_a_gpu_it_says_so(repository: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    call = [sys.executable, str(repository / "benchmarks" / "gpu.py")]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "torch sees no GPU" in done.stderr
