"""Metrics of real values, by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg_nca.metrics.regression import METRICS, constant_metrics, mean_of, real_metrics, skill

TRUTH = np.array([[1.0, 2.0], [4.0, np.nan]])
FOUND = np.array([[1.2, 1.0], [6.0, 99.0]])


@pytest.mark.parametrize("slab", [1, 2, 1 << 20])
def test_four_voxels_one_unknown(slab: int) -> None:
    """Errors 0.2, -1, 2 of truths 1, 2, 4; ratios 1.2, 2 and 1.5."""
    found = real_metrics(FOUND, TRUTH, slab)
    assert found == pytest.approx(
        {
            "rmse": math.sqrt((0.04 + 1 + 4) / 3),
            "mae": 3.2 / 3,
            "bias": 1.2 / 3,
            # The truth's mean is 7/3; squares from it 16/9 + 1/9 + 25/9.
            "r2": 1 - 5.04 / (42 / 9),
            "abs_rel": (0.2 + 0.5 + 0.5) / 3,
            "delta1": 1 / 3,
            "delta2": 2 / 3,  # 1.5 < 1.5625
            "delta3": 2 / 3,  # 2 > 1.953
            "voxels": 3,
        }
    )


def test_a_factor_is_met_below_it_only() -> None:
    found = real_metrics(np.array([1.25, 1.249, 0.8]), np.ones(3))
    assert found["delta1"] == pytest.approx(1 / 3)


def test_ratios_need_truths_above_zero_and_r2_needs_a_spread() -> None:
    found = real_metrics(np.array([0.0, 1.0]), np.array([0.0, 0.0]))
    assert [found[name] for name in ("abs_rel", "delta1", "r2")] == [None] * 3
    assert found["mae"] == 0.5


def test_a_prediction_that_is_not_positive_is_within_no_factor() -> None:
    found = real_metrics(np.array([-2.0, 0.0]), np.array([2.0, 2.0]))
    assert [found[f"delta{n}"] for n in (1, 2, 3)] == [0, 0, 0]
    assert found["abs_rel"] == pytest.approx(1.5)


def test_without_any_known_voxel_nothing_is_defined() -> None:
    found = real_metrics(np.ones(2), np.full(2, np.nan))
    assert found == {**dict.fromkeys(METRICS), "voxels": 0}


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        real_metrics(np.ones((1, 2)), np.ones(2))


def test_the_mean_of_the_truth_has_its_standard_deviation_as_error() -> None:
    truth = np.array([1.0, 3.0, 5.0, np.nan])
    found = constant_metrics(3.0, truth)
    assert found["rmse"] == pytest.approx(math.sqrt(8 / 3))
    assert found["r2"] == pytest.approx(0)
    assert found["bias"] == 0


def test_the_mean_leaves_out_what_is_not_defined() -> None:
    rows = [real_metrics(np.ones(2), np.array(t)) for t in ([1.0, 2.0], [1.0, 1.0])]
    assert mean_of(rows, "r2") == rows[0]["r2"]
    assert mean_of(rows[1:], "r2") is None


def test_skill_is_one_less_the_ratio_of_errors() -> None:
    assert skill([1.0], [4.0]) == 0.75
    assert skill([1.0, 6.0], [4.0, 3.0]) == pytest.approx((0.75 - 1.0) / 2)


numbers = arrays(np.float64, 7, elements=st.floats(0.1, 100))


@given(numbers, numbers, st.floats(0.1, 10))
def test_a_change_of_unit_scales_errors_and_leaves_ratios(
    found: np.ndarray, truth: np.ndarray, factor: float
) -> None:
    plain: Any = real_metrics(found, truth)
    scaled = real_metrics(found * factor, truth * factor)
    for name in ("rmse", "mae", "bias"):
        assert scaled[name] == pytest.approx(plain[name] * factor, abs=1e-9)
    assert scaled["abs_rel"] == pytest.approx(plain["abs_rel"])
    assert plain["rmse"] >= plain["mae"] - 1e-12
