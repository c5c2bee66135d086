"""The data and the model of the tests of many cases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.inference.bundle import LoadedModel, load_bundle
from tests.pipelines.resume.running import CASES
from tests.tracking.tiny import save_tiny


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("size") / "data"
    return write_phantom(folder, cases=CASES, seed=1, dims=2, size=(24, 20))


@pytest.fixture
def data(source: Path, tmp_path: Path) -> Path:
    """A data set whose labels are called as the model's."""
    folder = Path(shutil.copytree(source, tmp_path / "data"))
    tree = json.loads((folder / "dataset.json").read_text())
    tree["labels"] = {"0": "background", "1": "anterior", "2": "post", "3": "other"}
    (folder / "dataset.json").write_text(json.dumps(tree))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    save_tiny(tmp_path / "model", dims=2)
    return load_bundle(tmp_path / "model", "cpu")
