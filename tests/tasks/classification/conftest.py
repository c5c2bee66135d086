"""The data set that trainings and runs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tasks.classification.shapes import save_halves


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_halves(tmp_path_factory.mktemp("data") / "halves.npz")
