"""Data, prepared data and trained models that the tests of bad input spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from medseg_nca.datasets.adapters.phantom import write_phantom
from tests.cli.bad_input.stages import CASES, TRAINED, preprocess, train


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad_input") / "data"
    return write_phantom(folder, cases=len(CASES), seed=1, dims=2, size=(24, 20))


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bad_input") / "prepared"
    assert preprocess(source, out).exit_code == 0
    return out


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bad_input") / "run"
    assert train(prepared, out).exit_code == TRAINED
    return out


@pytest.fixture
def data(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "data"))
