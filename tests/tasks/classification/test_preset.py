"""The preset of digits: a third of its training already tells them apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg_nca.config.loading import load_settings
from medseg_nca.job import Job
from medseg_nca.pipelines import train
from medseg_nca.tasks import TASKS
from medseg_nca.tasks.base import EvaluateRequest


def test_the_preset_is_a_task_with_its_own_data() -> None:
    settings = load_settings("digits_classification")
    assert settings.task == "classification"
    assert TASKS.get(settings.task).options(settings).data == "digits"
    assert settings.undecided == ()


@pytest.mark.slow
def test_digits_are_learned_without_data_of_ones_own(tmp_path: Path) -> None:
    settings = load_settings(
        "digits_classification", ["training.iterations=500", "tracking.enabled=false"]
    )
    result = train.run(None, tmp_path / "run", settings)
    assert result.training.learned
    model = TASKS.get("classification").load(tmp_path / "run" / "model", "cpu")
    request = EvaluateRequest(model, None, tmp_path / "evaluation")
    tree = TASKS.get("classification").evaluate(request, Job()).tree
    assert len(tree["cases"]) == 359
    assert tree["accuracy"] > 0.93
    assert tree["auroc"] > 0.99
