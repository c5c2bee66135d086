"""Numbers that were worked out by hand, and scikit-learn's where it has them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from medseg_nca.config.training import EvaluationSettings
from medseg_nca.metrics.classification import (
    balanced_accuracy,
    calibration_error,
    class_aurocs,
    reliability,
    resampled_auroc,
    summarise,
)

SETTINGS = EvaluationSettings(bootstrap=200)
# Three of a, one of b: two of a are found, the b is found.
TRUTH = np.array([0, 0, 0, 1])
CHANCES = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])


def test_the_measures_of_four_images() -> None:
    tree = summarise(TRUTH, CHANCES, ("a", "b"), SETTINGS)
    assert tree["accuracy"] == 0.75
    assert tree["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-6)
    assert tree["auroc"] == 1.0
    loss = -(math.log(0.9) + math.log(0.8) + math.log(0.4) + math.log(0.7)) / 4
    assert tree["log_loss"] == pytest.approx(loss, abs=1e-6)
    assert tree["brier"] == pytest.approx(2 * (0.01 + 0.04 + 0.36 + 0.09) / 4, abs=1e-6)
    assert tree["confusion"] == [[2, 1], [0, 1]]
    assert tree["classes"]["a"] == {
        "n": 3, "sensitivity": pytest.approx(2 / 3, abs=1e-6), "precision": 1.0, "f1": 0.8,
        "auroc": 1.0,
    }  # fmt: skip
    assert tree["classes"]["b"]["precision"] == 0.5


def test_the_calibration_error_of_four_answers() -> None:
    """Bins 0.8-0.9: two right at 0.9 and 0.8+, 0.6-0.7: one right and one wrong."""
    hits, sure = np.array([True, True, False, True]), np.array([0.9, 0.85, 0.65, 0.7])
    rows = reliability(hits, sure)
    assert [(row["n"], row["accuracy"]) for row in rows] == [(2, 0.5), (2, 1.0)]
    assert [row["probability"] for row in rows] == [0.675, 0.875]
    assert calibration_error(hits, sure) == pytest.approx(0.5 * 0.175 + 0.5 * 0.125)


def test_a_value_on_a_border_is_in_the_lower_bin() -> None:
    assert reliability(np.array([True]), np.array([0.5]))[0]["low"] == 0.4
    assert reliability(np.array([True]), np.array([1.0]))[0]["high"] == 1.0
    assert reliability(np.array([True]), np.array([0.0]))[0]["low"] == 0.0


def test_a_class_that_does_not_occur_is_none_and_left_out_of_means() -> None:
    chances = np.column_stack([CHANCES * 0.9, np.full(4, 0.1)])
    tree = summarise(TRUTH, chances, ("a", "b", "c"), SETTINGS)
    row = {"n": 0, "sensitivity": None, "precision": None, "f1": None, "auroc": None}
    assert tree["classes"]["c"] == row
    assert tree["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-6)
    assert tree["auroc"] == 1.0


def test_intervals_hold_the_value_and_repeat() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    chances = rng.dirichlet(np.ones(3), 60)
    tree = summarise(truth, chances, ("a", "b", "c"), SETTINGS)
    for name in ("accuracy", "balanced_accuracy", "auroc", "log_loss", "brier"):
        low, high = tree[f"{name}_ci95"]
        assert low < tree[name] < high
    assert summarise(truth, chances, ("a", "b", "c"), SETTINGS) == tree


def test_one_image_has_no_interval() -> None:
    tree = summarise(TRUTH[:1], CHANCES[:1], ("a", "b"), SETTINGS)
    assert tree["accuracy_ci95"] is None
    assert tree["auroc"] is None


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=4, max_size=20
    )
)
def test_the_resampled_auroc_is_that_of_repeated_images(rows: list[tuple[bool, int, int]]) -> None:
    own, scores, times = (np.array(column) for column in zip(*rows, strict=True))
    drawn = np.repeat(own, times)
    found = resampled_auroc(own, scores / 5, times[None].astype(float))[0]
    if not drawn.any() or drawn.all():
        assert math.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(drawn, np.repeat(scores / 5, times)))


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    found = CHANCES.argmax(1)
    assert balanced_accuracy(TRUTH, found, 2) == balanced_accuracy_score(TRUTH, found)


def test_auroc_needs_both_sides() -> None:
    assert class_aurocs(np.array([0, 0]), np.array([[0.5, 0.5], [0.4, 0.6]])) == [None, None]
