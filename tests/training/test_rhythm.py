"""What is due every n-th iteration, or at every n-th part of a training."""

from __future__ import annotations

import pytest

from medseg_nca.config.training import TrainingSettings
from medseg_nca.training.optim import rate_factor
from medseg_nca.training.rhythm import is_due


@pytest.mark.parametrize("count", [7, 10, 20, 333])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_a_share_comes_as_often_as_it_fits(count: int, parts: int) -> None:
    due = [n for n in range(1, count + 1) if is_due(1 / parts, n, (n - 1) / count, n / count)]
    assert len(due) == parts
    assert due[-1] == count
    assert due[0] == -(-count // parts)  # the first iteration that reaches the part


def test_iterations_count_as_they_did() -> None:
    assert [n for n in range(1, 10) if is_due(3, n, 0.0, 0.1)] == [3, 6, 9]


def test_a_long_iteration_passes_several_parts_and_is_due_once() -> None:
    assert is_due(0.1, 5, 0.15, 0.45)
    assert not is_due(0.1, 6, 0.45, 0.49)


def test_the_rate_rises_over_a_share_of_the_training() -> None:
    settings = TrainingSettings(warmup=0.1, schedule="constant")
    assert [rate_factor(settings, 0, p) for p in (0.0, 0.05, 0.1, 0.5)] == [0.0, 0.5, 1.0, 1.0]
    assert rate_factor(TrainingSettings(warmup=0, schedule="constant"), 0, 0.0) == 1.0
