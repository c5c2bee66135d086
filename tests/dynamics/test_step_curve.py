"""The score against the number of steps, of an automaton whose every step is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg_nca.dynamics import SubjectRequest, metric_against_steps
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.job import Job, Progress
from medseg_nca.pipelines.dynamics import open_subject
from tests.pipelines.evaluate.blocks import bundle, data_set


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Its hidden channel grows by image + 1 in every step, and is the answer after one step."""
    return bundle(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "blocks", {"right": 0, "moved": 1})


def test_the_answer_after_the_trained_step_is_right_and_is_lost_afterwards(
    model: LoadedModel, data: Path
) -> None:
    subject = open_subject(SubjectRequest(model, data, "all"))
    assert (subject.cases, subject.steps) == (("moved", "right"), (1,))
    curve = metric_against_steps(subject, (4, 1, 2))
    at = {(p.case, p.factor): p.scores for p in curve.points}
    assert at["right", 1] == {"mean": 1, "front": 1, "back": 1}
    # After two steps the background holds 2 (image + 1) = 2, which is the value of "front".
    few, shape = 3 * 4 * 4, 12 * 11 * 9
    both = 2 * few
    assert at["right", 2]["front"] == 0
    assert at["right", 2]["back"] == pytest.approx(2 * few / (few + both))
    assert at["right", 2]["mean"] == pytest.approx(few / (few + both))
    # After four steps everything is "back".
    assert at["right", 4]["back"] == pytest.approx(2 * few / (few + shape))
    assert at["right", 4]["front"] == 0
    # Moved by one of three voxels, a third of each block is missed.
    assert at["moved", 1]["back"] == pytest.approx(2 / 3)
    means = curve.means()
    assert list(means) == [1, 2, 4]
    assert means[1]["back"] == pytest.approx((1 + 2 / 3) / 2)
    assert [p.steps for p in curve.points if p.case == "right"] == [(1,), (2,), (4,)]


def test_each_step_is_reported_and_cases_can_be_fewer(model: LoadedModel, data: Path) -> None:
    told: list[Progress] = []
    subject = open_subject(SubjectRequest(model, data, "all", cases=1))
    metric_against_steps(subject, (1, 2), each_level=True, job=Job(told.append))
    assert subject.cases == ("moved",)
    assert [(p.phase, p.done, p.total) for p in told] == [("steps", n, 2) for n in range(3)]
