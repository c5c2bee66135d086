"""The model and the predictor that the tests of evaluation share."""

from __future__ import annotations

import pytest

from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.tasks.segmentation import evaluation
from tests.pipelines.evaluate.blocks import Oracle, bundle


@pytest.fixture(name="model", scope="module")
def model_fixture(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return bundle(tmp_path_factory.mktemp("run") / "model")


@pytest.fixture(name="oracle")
def oracle_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "Predictor", Oracle)
    monkeypatch.setattr(evaluation, "draw", lambda *_: {})  # takes longest; see test_files
