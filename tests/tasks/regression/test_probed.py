"""A regression model as the probes of its dynamics see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.dynamics import SubjectRequest
from medseg_nca.pipelines.dynamics import DynamicsRequest, run
from medseg_nca.tasks import TASKS
from tests.tasks.regression.work import write_pairs

TASK = TASKS.get("regression")


def test_answers_scores_and_states_agree(trained: Path, tmp_path: Path) -> None:
    model = TASK.load(trained / "model", "cpu")
    subject = TASK.subject(SubjectRequest(model, write_pairs(tmp_path / "data"), "all", 2))
    assert (len(subject.cases), subject.steps) == (2, (3, 2))
    case = subject.open(subject.cases[0])
    answer = case.answer()
    assert answer.shape == (1, 20, 16)
    start = case.start(1)
    assert case.read(start.go(start.steps)) == pytest.approx(answer, abs=1e-5)
    (name,) = case.score(answer)
    assert case.agreement(answer, answer) == {name: 1.0}
    # A case without error has the skill 1, and one that is shifted by the constant's error less.
    assert case.score(case.target)[name] == pytest.approx(1)
    window = (slice(0, 10), slice(None))
    assert case.score(case.target[:, :10] + 1, window)[name] < 1


def test_every_kind_of_probe_finds_something(trained: Path, tmp_path: Path) -> None:
    model = TASK.load(trained / "model", "cpu")
    settings = DynamicsSettings(
        factors=(1,), least_watched=16, holes=(0.5,), noise=(0.1,), recovery=1, shifts=(1,),
        spacings=(0.9,), angles=(), seeds=2,
    )  # fmt: skip
    request = SubjectRequest(model, write_pairs(tmp_path / "data"), "all", 1)
    names = ("steps", "settling", "damage", "spacing", "seeds")
    tree = run(DynamicsRequest(request, tmp_path / "out", settings, names))
    assert set(tree["probes"]) == set(names)
    damage = tree["probes"]["damage"]["found"]["damage"]
    assert "resilience" not in damage["noise of 0.1"]  # it is defined by labels
    assert np.isfinite(damage["noise of 0.1"]["curve"][0]["agreement"])
