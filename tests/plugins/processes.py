"""Python in processes that have the packages of plug-ins installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python(folders: list[Path], *args: object) -> subprocess.CompletedProcess[str]:
    """Run Python with the packages in some folders installed."""
    path = os.pathsep.join(map(str, [ROOT, *folders]))
    return subprocess.run(
        [sys.executable, *map(str, args)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip


def command(folders: list[Path], *args: object, code: int = 0) -> str:
    """Run ``medseg-nca`` and return what it printed, errors too."""
    done = python(folders, "-m", "medseg_nca", *args)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    return said
