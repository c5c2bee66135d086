"""The model that the tests of evaluation share."""

from __future__ import annotations

import pytest

from medseg_nca.inference.bundle import LoadedModel
from tests.pipelines.evaluate.blocks import bundle


@pytest.fixture(name="model", scope="module")
def model_fixture(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return bundle(tmp_path_factory.mktemp("run") / "model")
