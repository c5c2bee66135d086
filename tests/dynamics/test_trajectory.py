"""Size of the change, cells that moved and overflow, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from medseg_nca.dynamics.trajectory import watch
from tests.dynamics.automata import STILL, scaling, start_of


def test_a_constant_change_has_a_constant_size() -> None:
    seen = watch(start_of(STILL, (0.3, 0.4)), 5)
    assert [motion.step for motion in seen.motions] == [1, 2, 3, 4, 5]
    for motion in seen.motions:
        assert motion.change == pytest.approx(math.sqrt(0.125), rel=1e-5)
        assert motion.moved == 1
        assert motion.overflow == 0
    assert seen.failed is None


def test_cells_that_move_by_less_than_the_tolerance_did_not_move() -> None:
    assert watch(start_of(STILL, (0.05, 0.0)), 1, tolerance=0.1).motions[0].moved == 0
    assert watch(start_of(STILL, (0.05, 0.0)), 1, tolerance=0.01).motions[0].moved == 1


def test_only_cells_that_fire_move() -> None:
    seen = watch(start_of(STILL, (1.0, 1.0), rate=0.5), 40)
    shares = [motion.moved for motion in seen.motions]
    assert 0.4 < sum(shares) / len(shares) < 0.6
    for motion in seen.motions:
        assert motion.change == pytest.approx(math.sqrt(motion.moved), rel=1e-5)


def test_values_beyond_the_bound_overflow() -> None:
    # Channel 1 goes up by 4 in a step, from .5 to 1.5; channel 2 stays.
    seen = watch(start_of(STILL, (4.0, 0.0)), 3, bound=10)
    assert [motion.overflow for motion in seen.motions] == [0, 0, 0.5]
    assert 12.5 < seen.motions[-1].largest < 13.5


def test_a_state_that_is_not_finite_ends_the_curve_and_tells_the_step() -> None:
    seen = watch(start_of(scaling(1e10)), 12)
    assert seen.failed == len(seen.motions)
    assert math.isinf(seen.motions[-1].largest)
    # 1e10 to the fourth is beyond float32, whose largest number is 3.4e38.
    assert seen.failed == 4
