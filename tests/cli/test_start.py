"""What a command imports: nothing heavy before its first line, and later only what it needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

# Each of them takes a good part of a second, or several.
SLOW = ("torch", "numpy", "pydicom", "nibabel", "mlflow", "pandas", "matplotlib", "SimpleITK")
# What segmenting a NIfTI file needs nothing of. torch._dynamo and sympy come with what compiles.
NOT_FOR_PREDICT = (
    "monai", "mlflow", "pandas", "matplotlib", "SimpleITK", "skimage", "scipy.ndimage",
    "scipy.stats", "highdicom", "imagecodecs", "lightning_fabric", "torch._dynamo",
    "torch._inductor", "sympy", "numba", "psutil", "safetensors.numpy",
)  # fmt: skip
FIRST_IMPORT = 77

COMMANDS = [
    "predict --model zoo:hippocampus --out {0}/out {0}/x.nii.gz",
    "evaluate --model zoo:hippocampus --data {0} --out {0}/out",
    "compare {0} {0}",
    "preprocess --data {0} --out {0}/out",
    "train --data {0} --out {0}/out",
    "search --data {0} --out {0}/out",
    "demo --out {0}/demo",
    "doctor",
    "bench step",
    "bench train",
    "bench model",
    "data check {0}",
    "data phantom {0}/new",
    "dicom scan {0}",
    "dicom import {0} --out {0}/out",
    "dicom deidentify {0} --out {0}/out",
    "dicom check {0}",
    "dicom write {0}/x.nii.gz --out {0}/out",
    "models list --tracking-uri {0}/mlflow.db",
    "models show name --tracking-uri {0}/mlflow.db",
    "models register {0} --name name",
    "models promote name 1 --alias champion",
    "models verify zoo:hippocampus",
    "models export zoo:hippocampus --to {0}/out",
    "models describe zoo:hippocampus",
    "models zoo list",
]


def python(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *args], capture_output=True, text=True, check=False
    )


def stopped_at_first_slow_import(*args: str) -> subprocess.CompletedProcess[str]:
    """Run a command up to the first import that takes long."""
    return python(
        "import os, sys\n"
        "from medseg_nca.cli.main import main\n"
        "class Stop:\n"
        "    def find_spec(name, *_):\n"
        f"        if name in {SLOW!r}: sys.stdout.flush(); os._exit({FIRST_IMPORT})\n"
        "sys.meta_path.insert(0, Stop)\n"
        "main()",
        *args,
    )


@pytest.mark.parametrize("line", COMMANDS)
def test_the_first_line_comes_before_any_slow_import(line: str, tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").touch()
    args = line.format(tmp_path).split()
    done = stopped_at_first_slow_import(*args)
    assert done.returncode == FIRST_IMPORT, done.stderr
    assert re.match(r"\d\d:\d\d:\d\d INFO +[A-Z].*\.\n", done.stderr)
    assert done.stdout == ""
    assert stopped_at_first_slow_import("--quiet", *args).stderr == ""


@pytest.mark.parametrize(
    "line", ["config list", "config show demo", "config diff demo hippocampus_m3d", "data list"]
)
def test_commands_that_only_list_import_nothing_slow(line: str) -> None:
    done = stopped_at_first_slow_import(*line.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_predict_imports_only_what_it_needs(tmp_path: Path) -> None:
    image = tmp_path / "image.nii.gz"
    values = np.random.default_rng(0).integers(0, 1000, (24, 28, 24), np.int16)
    nib.Nifti1Image(values, np.eye(4)).to_filename(image)
    done = python(
        "import json, sys\n"
        "from medseg_nca.cli.main import cli\n"
        "cli(sys.argv[1:], prog_name='medseg-nca', standalone_mode=False)\n"
        f"print(json.dumps([name for name in {NOT_FOR_PREDICT!r} if name in sys.modules]))",
        *(
            "predict",
            "--model",
            "zoo:hippocampus",
            "--no-estimate",
            "--out",
            str(tmp_path / "out"),
            str(image),
        ),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert (tmp_path / "out" / image.name).is_file()
