"""A growing automaton as the probes of its dynamics see it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.dynamics import SubjectRequest, damages
from medseg_nca.errors import DataError
from medseg_nca.job import Job
from medseg_nca.pipelines.dynamics import DynamicsRequest, run
from medseg_nca.tasks.generation import TASK
from medseg_nca.tasks.generation.evaluation import measure
from medseg_nca.tasks.generation.growth import wound
from medseg_nca.tasks.generation.options import EvaluationOptions
from tests.tasks.generation.growing import model_of


def test_the_loss_of_the_probes_is_that_of_an_evaluation(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    subject = TASK.subject(SubjectRequest(model, None))
    assert (subject.cases, subject.steps) == (("emblem",), (4,))
    case = subject.open("emblem")
    row = measure(model, 0, 0, EvaluationOptions(times=(1, 2)), Job()).row
    for times in (1, 2):
        loss = case.score(case.answer(factor=times))["loss"]
        assert loss == pytest.approx(row["loss"][f"{times}x"])


def test_the_wounds_are_those_of_an_evaluation(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    case = TASK.subject(SubjectRequest(model, None)).open("emblem")
    start = case.start(0)
    state = start.go(start.steps)
    made = damages(case, start, state, holes=(), deviations=(), seed=0)
    assert sorted(made) == ["corner", "disc", "half", "no damage"]
    assert np.array_equal(made["disc"], wound(model, state, case.wounds()["disc"]))
    assert not np.array_equal(made["half"], state)


def test_the_report_has_the_probes_of_a_growth(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    settings = DynamicsSettings(least_watched=16, factors=(1, 2), seeds=2, recovery=2)
    tree = run(DynamicsRequest(SubjectRequest(model, None), tmp_path / "out", settings))
    assert sorted(tree["probes"]) == ["change", "damage", "seeds", "settling", "steps"]
    assert sorted(tree["left_out"]) == ["rotations", "shifts", "spacing"]
    assert tree["score"]["better"] == "lower"
    assert json.loads((tmp_path / "out" / "dynamics.json").read_text("utf-8")) == tree


def test_it_takes_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="learns from no data set"):
        TASK.subject(SubjectRequest(model_of(tmp_path), tmp_path))
