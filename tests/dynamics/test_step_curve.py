"""The score against the number of steps, of an automaton whose every step is known."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg_nca.dynamics import SubjectRequest, metric_against_steps
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.job import Job, Progress
from medseg_nca.pipelines.dynamics import open_subject
from tests.pipelines.evaluate.blocks import anatomy, bundle, data_set


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Its hidden channel grows by image + 1 in every step; it answers with what is nearest to it.

    After the one trained step this is the image, which holds the truth.
    """
    return bundle(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "blocks", {"right": 0, "moved": 1})


def worked(data: Path, case: str, steps: int, value: int) -> float:
    """The Dice of a label after some steps, from the rule of the automaton alone."""
    image = nib.load(data / f"imagesTr/{case}.nii.gz").get_fdata()
    found = np.clip(np.round(steps * (image + 1) - 1), 0, 2) == value
    true = anatomy() == value
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


def test_the_score_after_every_number_of_steps_is_the_one_worked_out_by_hand(
    model: LoadedModel, data: Path
) -> None:
    subject = open_subject(SubjectRequest(model, data, "all"))
    assert (subject.cases, subject.steps) == (("moved", "right"), (1,))
    curve = metric_against_steps(subject, (4, 1, 2))
    assert len(curve.points) == 6
    for point in curve.points:
        (steps,) = point.steps
        assert steps == point.factor
        front, back = (worked(data, point.case, steps, value) for value in (1, 2))
        assert point.scores == pytest.approx(
            {"mean": (front + back) / 2, "front": front, "back": back}
        )
    means = curve.means()
    assert list(means) == [1, 2, 4]
    # A block of three voxels that is moved by one keeps two thirds of them.
    assert means[1]["back"] == pytest.approx((1 + 2 / 3) / 2)
    assert means[4]["front"] == 0


def test_each_roll_out_is_reported_and_cases_can_be_fewer(model: LoadedModel, data: Path) -> None:
    told: list[Progress] = []
    subject = open_subject(SubjectRequest(model, data, "all", cases=1))
    metric_against_steps(subject, (1, 2), each_level=True, job=Job(told.append))
    assert subject.cases == ("moved",)
    assert [(p.phase, p.done, p.total) for p in told] == [("steps", n, 2) for n in range(3)]
