"""A thousand instances over ten associations take no more memory than a hundred."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.node.running import ROOT
from tests.serving.running import PATIENCE
from tests.tracking.tiny import save_tiny

pytestmark = pytest.mark.slow


def test_memory_is_flat_while_a_thousand_instances_arrive(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny", seed=10)
    command = [
        sys.executable, str(ROOT / "benchmarks" / "node.py"), "--json", "--model",
        f"tiny={tmp_path / 'tiny'}", "--repeats", "1", "--series", "2", "--instances", "1000",
        "--associations", "10", "--size", "64",
    ]  # fmt: skip
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    print(found)
    assert min(found["latency"]) > found["settle"]
    assert found["series_an_hour"] > 0
    memory = found["memory"]
    assert max(memory["most"]) - memory["before"] < 60  # 10^6 bytes
    assert memory["most"][-1] - memory["most"][len(memory["most"]) // 5] < 15
