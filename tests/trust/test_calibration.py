"""Intervals cover what they promise, and thresholds keep the miss rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg_nca.config.trust import GateSettings
from medseg_nca.trust.calibration import Calibration
from tests.trust.sections import section_of


def pairs_of(count: int, seed: int, spread: float = 0.05) -> tuple[list[float], list[float]]:
    """Predictions, and truths that differ more from them where the prediction is low."""
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(0.2, 0.95, count)
    true = predicted + rng.normal(0, 1, count) * spread * (1.5 - predicted)
    return predicted.tolist(), np.clip(true, 0, 1).tolist()


def test_intervals_of_new_pairs_cover_nine_of_ten() -> None:
    """Over 20 fits with 200 cases each, and 200 new pairs for each fit."""
    inside = []
    for seed in range(20):
        calibration = Calibration(section_of(*pairs_of(200, seed), cases=200))
        for predicted, true in zip(*pairs_of(200, seed + 1000), strict=True):
            interval = calibration.interval(predicted)
            inside.append(interval.low <= true <= interval.high)
    assert 0.88 <= np.mean(inside) <= 0.93


def test_a_worse_mask_has_a_wider_interval() -> None:
    calibration = Calibration(section_of(*pairs_of(400, 0), cases=400))
    good, bad = calibration.interval(0.9), calibration.interval(0.3)
    assert bad.high - bad.low > 1.3 * (good.high - good.low)


def test_few_cases_widen_the_interval() -> None:
    predicted, true = pairs_of(50, 0)
    many = Calibration(section_of(predicted, true, cases=50)).interval(0.8)
    few = Calibration(section_of(predicted, true, cases=5)).interval(0.8)
    assert few.low < many.low
    assert few.high > many.high


def test_thresholds_worked_by_hand() -> None:
    """Of 19 bad masks, 5 % of 20 may reach the threshold: one less than one, so none does."""
    bad = [0.3] * 18 + [0.85]
    good = [0.9] * 19 + [0.5]
    section = section_of(bad + good, [0.1] * 19 + [0.95] * 20)
    limits = Calibration(section).thresholds(GateSettings(acceptable=0.8, miss_rate=0.05))
    assert limits.accept == pytest.approx(0.85)
    assert limits.accept > 0.85
    # One of 20 good masks may be rejected: that of 0.5 lies below 0.9, but 0.8 is acceptable.
    assert limits.reject == pytest.approx(0.8)


def test_the_acceptable_dice_is_the_lowest_threshold() -> None:
    section = section_of([0.2] * 30 + [0.9] * 20, [0.1] * 30 + [0.92] * 20)
    limits = Calibration(section).thresholds(GateSettings(acceptable=0.85))
    assert limits.accept == 0.85
    assert not limits.blind


@pytest.mark.parametrize(
    ("bad", "rate", "blind"),
    [(0, 0.05, True), (18, 0.05, True), (19, 0.05, False), (19, 0.01, True)],
)
def test_too_few_bad_masks_are_told(bad: int, rate: float, blind: bool) -> None:
    section = section_of([0.2] * bad + [0.9] * 20, [0.1] * bad + [0.92] * 20)
    assert Calibration(section).thresholds(GateSettings(miss_rate=rate)).blind == blind


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=60),
    st.floats(0, 1), st.integers(1, 60), st.floats(0.01, 0.4),
)  # fmt: skip
def test_whatever_the_pairs_are_the_numbers_make_sense(
    pairs: list[tuple[float, float]], predicted: float, cases: int, rate: float
) -> None:
    section = section_of(*map(list, zip(*pairs, strict=True)), cases=cases)
    calibration = Calibration(section)
    interval = calibration.interval(predicted)
    assert 0 <= interval.low <= predicted <= interval.high <= 1
    gate = GateSettings(miss_rate=rate)
    limits = calibration.thresholds(gate)
    assert 0 <= limits.reject <= gate.acceptable <= limits.accept
    bad = [found for found, true in pairs if true < gate.acceptable]
    assert limits.blind == (rate * (len(bad) + 1) < 1)
    assert limits.blind or sum(found >= limits.accept for found in bad) < rate * (len(bad) + 1)
