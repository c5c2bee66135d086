"""DICOM SEG as dcmqi reads it."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

from medseg_nca.io.read import read_volume
from medseg_nca.io.volume import Volume


def segimage2itkimage() -> str:
    """The program that dcmqi's package installs beside Python; skips where it is not."""
    program = Path(sysconfig.get_path("scripts")) / "segimage2itkimage"
    if not program.exists():
        pytest.skip("dcmqi is not installed: pip install 'medseg-nca[peers]'")
    return str(program)


def segments(path: Path, out: Path) -> dict[int, Volume]:
    """The segments of a SEG by their numbers, each a volume of its own."""
    out.mkdir()
    command = [segimage2itkimage(), "--inputDICOM", str(path), "--outputDirectory", str(out)]
    subprocess.run([*command, "-t", "nrrd"], check=True, capture_output=True, timeout=120)
    return {int(file.stem): read_volume(file) for file in out.glob("*.nrrd")}
