"""The divergence guard and the learning rate, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from medseg_nca.config.training import GuardSettings, TrainingSettings
from medseg_nca.training.ema import averaged
from medseg_nca.training.guard import DivergenceGuard
from medseg_nca.training.optim import build_optimiser, rate_factor


def test_a_loss_that_is_not_finite_is_unusual() -> None:
    guard = DivergenceGuard(GuardSettings())
    assert guard.unusual(math.nan)
    assert guard.unusual(math.inf)
    assert not guard.unusual(1e6)


def test_a_loss_far_above_the_running_mean_is_unusual() -> None:
    guard = DivergenceGuard(GuardSettings(factor=5))
    for _ in range(60):
        assert not guard.unusual(1.0)
    assert not guard.unusual(4.9)
    assert guard.unusual(20.0)
    assert guard.mean == pytest.approx(1.078)


def test_the_first_losses_are_not_judged_and_small_ones_never() -> None:
    """A training begins with losses that tell nothing, and ends with some that are near zero."""
    guard = DivergenceGuard(GuardSettings(factor=5))
    for number in range(50):
        assert not guard.unusual(1e-3 if number else 100.0)
    guard.load_state_dict({"mean": 1e-4, "seen": 60, "rollbacks": 0})
    assert not guard.unusual(0.24)
    assert guard.unusual(0.3)


def test_a_restored_guard_knows_what_is_normal() -> None:
    guard, other = (DivergenceGuard(GuardSettings(factor=5)) for _ in range(2))
    for _ in range(60):
        guard.unusual(1.0)
    other.load_state_dict(guard.state_dict())
    assert other.unusual(20.0)
    assert other.mean == guard.mean


def test_only_several_unusual_losses_in_a_row_have_diverged() -> None:
    guard = DivergenceGuard(GuardSettings(patience=3))
    for loss, diverged in (
        (math.nan, False), (math.nan, False), (1.0, False),
        (math.nan, False), (math.inf, False), (math.nan, True),
    ):  # fmt: skip
        guard.unusual(loss)
        assert guard.diverged is diverged
    other = DivergenceGuard(GuardSettings(patience=4))
    other.load_state_dict(guard.state_dict())
    assert (other.diverged, other.unusual(math.nan), other.diverged) == (False, True, True)


def test_a_state_of_an_older_version_has_no_unusual_losses() -> None:
    guard = DivergenceGuard(GuardSettings(patience=1))
    guard.load_state_dict({"mean": 1.0, "seen": 60, "rollbacks": 0})
    assert not guard.diverged


def test_roll_backs_lower_the_rate_and_run_out() -> None:
    guard = DivergenceGuard(GuardSettings(max_rollbacks=2, lr_factor=0.5))
    guard.rollbacks = 2
    assert guard.rate_factor == 0.25
    assert guard.exhausted
    other = DivergenceGuard(GuardSettings())
    other.load_state_dict(guard.state_dict())
    assert other.rollbacks == 2


def test_cosine_with_warm_up() -> None:
    settings = TrainingSettings(schedule="cosine", warmup=10)
    assert rate_factor(settings, 0, 0.0) == pytest.approx(0.1)
    assert rate_factor(settings, 100, 0.5) == pytest.approx(0.5)
    assert rate_factor(settings, 100, 1.0) == pytest.approx(0.0)


def test_exponential_and_constant() -> None:
    exponential = TrainingSettings(schedule="exponential", gamma=0.5, warmup=0)
    assert rate_factor(exponential, 3, 0.9) == 0.125
    assert rate_factor(TrainingSettings(schedule="constant", warmup=0), 3, 0.9) == 1.0


def test_biases_do_not_decay() -> None:
    optimiser = build_optimiser(nn.Linear(3, 2), TrainingSettings(weight_decay=0.1))
    decay = {tuple(g["params"][0].shape): g["weight_decay"] for g in optimiser.param_groups}
    assert decay == {(2, 3): 0.1, (2,): 0.0}


def test_the_average_follows_the_weights() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    ema = averaged(model, 0.9)
    ema.update_parameters(model)
    with torch.no_grad():
        model.weight.fill_(1.0)
    ema.update_parameters(model)
    # The second update keeps (1 + 1) / (10 + 1) of the average.
    assert ema.module.weight.item() == pytest.approx(1 - 2 / 11)


def test_the_average_forgets_no_slower_than_its_decay() -> None:
    model = nn.Linear(1, 1, bias=False)
    ema = averaged(model, 0.5)
    for _ in range(100):
        ema.update_parameters(model)
    before = ema.module.weight.item()
    with torch.no_grad():
        model.weight.fill_(before + 1.0)
    ema.update_parameters(model)
    assert ema.module.weight.item() == pytest.approx(before + 0.5)
