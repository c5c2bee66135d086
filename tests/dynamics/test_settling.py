"""The verdict on automata whose attractor is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg_nca.config.model import StopSettings
from medseg_nca.dynamics.settling import Criteria, judge, most_compared, settle
from medseg_nca.errors import Interrupted
from medseg_nca.job import Job
from tests.dynamics.automata import STILL, scaling, start_of, turning


def kinds(*args: object, steps: int = 128, **options: object) -> set[tuple[str, int | None]]:
    found = settle(start_of(*args, **options), steps)  # type: ignore[arg-type]
    assert len(found.verdicts) == 2  # one for each sample
    return {(verdict.kind, verdict.period) for verdict in found.verdicts}


def test_a_contraction_settles_at_its_fixed_point() -> None:
    # h -> 0.8 h + 0.4 has the fixed point 2.
    found = settle(start_of(scaling(0.8), (0.4, 0.4)), 128)
    assert {verdict.kind for verdict in found.verdicts} == {"fixed point"}
    assert found.ends is not None
    assert found.ends[1][:, 1:].numpy() == pytest.approx(2, abs=1e-4)


def test_a_contraction_to_zero_settles_too() -> None:
    assert kinds(scaling(0.8)) == {("fixed point", None)}


def test_a_slow_contraction_is_still_on_its_way() -> None:
    assert kinds(scaling(0.97), (0.3, 0.3), steps=64) == {("approach", None)}


@pytest.mark.parametrize("period", [2, 3, 7, 12, 30])
def test_a_rotation_is_a_cycle_of_its_period(period: int) -> None:
    assert kinds(turning(period)) == {("cycle", period)}


def test_a_cycle_longer_than_half_the_window_is_not_called_one() -> None:
    assert "cycle" not in {kind for kind, _ in kinds(turning(50), steps=128)}
    assert kinds(turning(50), steps=256) == {("cycle", 50)}


def test_a_constant_change_is_drift() -> None:
    assert kinds(STILL, (0.05, -0.02)) == {("drift", None)}


def test_a_drift_that_is_slow_against_the_size_counts_as_still() -> None:
    # 64 steps of 1e-4 are .0064 of a state of size about 1: below the tolerance of .01.
    found = settle(start_of(STILL, (1e-4, 1e-4)), 128)
    assert {verdict.kind for verdict in found.verdicts} == {"fixed point"}
    assert found.verdicts[0].straightness == pytest.approx(1)
    strict = settle(start_of(STILL, (1e-4, 1e-4)), 128, Criteria(still=1e-3))
    assert {verdict.kind for verdict in strict.verdicts} == {"drift"}


@pytest.mark.parametrize("factor", [1.05, 1.3, 3.0])
def test_growth_by_a_factor_is_an_explosion(factor: float) -> None:
    # Three times as much in every step is no float32 any more after 80 steps.
    assert kinds(scaling(factor)) == {("explosion", None)}


def test_steps_at_random_wander() -> None:
    rng = np.random.default_rng(0)
    assert judge(rng.normal(size=(65, 400))).kind == "wandering"


def test_masks_are_left_out_of_the_verdict_and_measured_beside_it() -> None:
    # Without masks, h -> h + rate (-1.5 h + 1.5) goes to 1. With a mask, cells that fire jump to
    # the other side of 1 and cells that do not stay, but all of them near 1 in the end.
    calm = settle(start_of(scaling(-0.5), (1.5, 1.5), rate=0.5), 128)
    assert {verdict.kind for verdict in calm.verdicts} == {"fixed point"}
    assert calm.fluctuation == pytest.approx(0, abs=1e-3)
    # h -> -h + 2 in a cell that fires: for ever from side to side, at random moments. The mean
    # map, h -> 1, is still.
    restless = settle(start_of(scaling(-1), (2.0, 2.0), rate=0.5), 128)
    assert {verdict.kind for verdict in restless.verdicts} == {"fixed point"}
    assert restless.fluctuation is not None
    assert restless.fluctuation > 0.1
    assert settle(start_of(scaling(0.8)), 128).fluctuation is None  # every cell fires


def test_the_verdict_is_the_same_each_time() -> None:
    a, b = (settle(start_of(scaling(-1), (2.0, 2.0), rate=0.5), 64, seed=4) for _ in range(2))
    assert a.verdicts == b.verdicts
    assert a.fluctuation == b.fluctuation
    assert np.array_equal(a.distances, b.distances)


@settings(max_examples=20)
@given(st.floats(0.01, 100), st.integers(2, 16), st.floats(0, 6))
def test_the_verdict_does_not_depend_on_the_unit(size: float, period: int, phase: float) -> None:
    times = np.arange(65)[:, None] * 2 * math.pi / period + phase
    circle = np.concatenate((np.cos(times), np.sin(times)), 1) * size
    found = judge(circle)
    assert (found.kind, found.period) == ("cycle", period)


def test_distances_are_those_of_the_states() -> None:
    found = settle(start_of(STILL, (0.3, 0.4)), 64)
    # Both channels move on by .3 and .4: by the root of (.09 + .16) / 2 in a step.
    step = math.sqrt(0.125)
    assert found.window == 32
    assert found.distances[0, 1] == pytest.approx(step, rel=1e-4)
    assert found.distances[3, 19] == pytest.approx(16 * step, rel=1e-4)


def test_an_automaton_that_stopped_before_the_window_ends_where_it_stopped() -> None:
    start = start_of(scaling(0.5), (0.5, 0.5))
    settings = start.cell.settings
    start.cell.settings = settings.changed(stop=StopSettings(tolerance=1e-3, least=1))
    found = settle(start, 128)
    assert {verdict.kind for verdict in found.verdicts} == {"fixed point"}
    assert found.ends is not None
    assert torch.equal(found.ends[0], found.ends[1])
    assert found.ends[0][:, 1:].numpy() == pytest.approx(1, abs=1e-2)


def test_the_states_of_a_long_window_take_bounded_memory() -> None:
    assert most_compared(1, 16, 64) == 100_000 // 16
    for window in (64, 4_000, 40_000):
        cells = most_compared(2, 15, window)
        assert cells >= 1
        assert cells * 2 * 15 * (window + 1) * 8 <= 2.1e8


def test_too_few_states_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 9 states"):
        judge(np.zeros((8, 3)))


def test_it_can_be_cancelled() -> None:
    job = Job()
    job.cancel()
    with pytest.raises(Interrupted):
        settle(start_of(STILL), 64, job=job)
