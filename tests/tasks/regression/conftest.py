"""One tiny training for all tests of the task that need a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg_nca.pipelines import train
from tests.tasks.regression.work import tiny_settings


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder."""
    out = tmp_path_factory.mktemp("regression") / "run"
    train.run(None, out, tiny_settings())
    return out
