"""Requests made up from our own OpenAPI description by schemathesis: none ends in a fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.running import start
from tests.tracking.tiny import save_tiny

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture(scope="session")
def schemathesis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In an environment of its own, whose versions are not ours."""
    folder = tmp_path_factory.mktemp("schemathesis")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    done = subprocess.run(
        [*command, "schemathesis>=4"], capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        pytest.skip(f"schemathesis cannot be installed: {done.stderr.strip()[-200:]}")
    return folder / "bin" / "schemathesis"


def test_no_request_ends_in_a_fault(schemathesis: Path, tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    server = start(tmp_path, "--models", str(tmp_path / "tiny"), "--queue", "1000").ready()
    options = ("--checks", "not_a_server_error", "--max-examples", "8", "--no-color",
               "--generation-deterministic", "--request-timeout", "120",
               "--exclude-path-regex", "^/train")  # fmt: skip
    done = subprocess.run(
        [str(schemathesis), "run", f"{server.url}/openapi.json", *options],
        cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    log = server.log.read_text()
    assert "failed" not in log
    assert "Traceback" not in log
    assert server.stop() == 0
