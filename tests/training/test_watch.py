"""Which trainings count as having learned something, by hand."""

from __future__ import annotations

import math

import pytest

from medseg_nca.training.learner import ConstantAnswer
from medseg_nca.training.watch import judge

NAN = math.nan


@pytest.mark.parametrize(
    ("constant", "loss", "score", "learned", "reasons"),
    [
        ((1.25, 0.02), 0.5, 0.8, True, 0),
        ((1.25, 0.02), 1.2, 0.14, False, 1),  # kernels with wrong gradients gave this
        ((1.25, 0.02), 0.5, 0.02, False, 1),
        ((1.25, 0.02), 1.25, 0.0, False, 2),
        ((1.25, NAN), 1.1, NAN, True, 0),
        ((NAN, 0.02), 9.0, 0.1, True, 0),
        ((NAN, NAN), 9.0, 0.0, None, 0),
        ((1.25, 0.02), NAN, NAN, None, 0),
        ((-2.0, NAN), -2.1, NAN, False, 1),  # a likelihood may be negative
        ((-2.0, NAN), -2.3, NAN, True, 0),
    ],
)
def test_a_training_is_judged_by_loss_and_score(
    constant: tuple[float, float], loss: float, score: float, learned: bool | None, reasons: int
) -> None:
    verdict = judge(ConstantAnswer(*constant), loss, score)
    assert verdict.learned is learned
    assert len(verdict.reasons) == reasons


def test_the_reasons_name_both_numbers() -> None:
    (reason,) = judge(ConstantAnswer(loss=1.25), 1.2, NAN).reasons
    assert "1.2 only" in reason
    assert "1.25" in reason
