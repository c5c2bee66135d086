"""Installed packages: the example, and broken ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medseg_nca.datasets.adapters.phantom import write_phantom
from tests.plugins.processes import ROOT, python


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package, built and installed without a network."""
    pytest.importorskip("pip", reason="pip installs the example package")
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(ROOT / "tests" / "plugin_example", folder / "source")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps",
         "--no-build-isolation", "--target", folder / "site", source],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "site"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the layout of the example."""
    folder = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(folder, cases=5, seed=1, dims=2, size=(24, 20))
    tree = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    lines = [f"{case['image']} {case['label']}" for case in tree["training"]]
    (folder / "pairs.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def trained(
    installed: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A run of the example's preset, and what the training said."""
    return train_example(installed, data, tmp_path_factory)


def train_example(
    installed: Path, data: Path, tmp_path_factory: pytest.TempPathFactory, *more: str
) -> tuple[Path, str]:
    """Train with the example's preset; returns the run and what the training said."""
    run = tmp_path_factory.mktemp("trained") / "run"
    # Twelve iterations learn nothing, which is exit code 5 where it can be told.
    done = python(
        [installed], "-m", "medseg_nca", "train", "--config", "example_run", "--data", data,
        "--out", run, *more,
    )  # fmt: skip
    assert done.returncode in {0, 5}, done.stderr
    return run, done.stderr
