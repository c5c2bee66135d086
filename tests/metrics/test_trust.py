"""Numbers that compare scores of masks with their true Dice, by hand and as properties."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.metrics.trust import (
    auroc_of_bad,
    interval_coverage,
    known_pairs,
    mean_absolute_error,
    pearson,
    risk_coverage,
    selective_risk,
    spearman,
)

DICE = [0.9, 0.5, 0.7]
# Coarse values, so that ties are common.
SHARES = st.integers(0, 10).map(lambda n: n / 10)
PAIRS = st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=12)


def columns(pairs: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    found = np.array(pairs)
    return found[:, 0], found[:, 1]


def test_the_curve_by_hand() -> None:
    """Kept in the order 0.9, 0.5, 0.7: risks 0.1, (0.1 + 0.5) / 2, (0.1 + 0.5 + 0.3) / 3."""
    curve = risk_coverage([3, 2, 1], DICE)
    assert curve.coverage == pytest.approx([1 / 3, 2 / 3, 1])
    assert curve.risk == pytest.approx([0.1, 0.3, 0.3])
    assert curve.area == pytest.approx(0.7 / 3)
    found = selective_risk([3, 2, 1], DICE)
    assert found is not None
    # The best order is 0.9, 0.7, 0.5: risks 0.1, 0.2, 0.3; a random one has 0.3 throughout.
    assert found.best == pytest.approx(0.2)
    assert found.random == pytest.approx(0.3)
    assert found.excess == pytest.approx(0.1 / 3)
    assert found.normalised == pytest.approx(1 / 3)


def test_ties_by_hand() -> None:
    """0.5 and 0.7 have one score: each has their mean risk, 0.4."""
    curve = risk_coverage([3, 1, 1], DICE)
    assert curve.risk == pytest.approx([0.1, 0.25, 0.3])
    alike = selective_risk([1, 1, 1], DICE)
    assert alike is not None
    assert alike.normalised == pytest.approx(1)


def test_equally_good_masks_have_no_normalised_area() -> None:
    found = selective_risk([1, 2, 3], [0.6, 0.6, 0.6])
    assert found is not None
    assert found.excess == pytest.approx(0)
    assert found.normalised is None


def test_correlations_errors_and_coverage_by_hand() -> None:
    assert spearman([0.1, 0.2, 0.9], [0.2, 0.3, 0.4]) == pytest.approx(1)
    # Ranks 1, 2, 3 against 3, 1, 2: 1 - 6 (4 + 1 + 1) / (3 * 8).
    assert spearman([1, 2, 3], DICE) == pytest.approx(-0.5)
    # Deviations (-1, 0, 1) and (0.2, -0.2, 0): -0.2 / sqrt(2 * 0.08).
    assert pearson([1, 2, 3], DICE) == pytest.approx(-0.5)
    assert mean_absolute_error([0.8, 0.7, 0.7], DICE) == pytest.approx(0.1)
    assert interval_coverage([0.9, 0.6, 0.1], [1.0, 0.8, 0.7], DICE) == pytest.approx(2 / 3)


def test_bad_masks_by_hand() -> None:
    """Bad: 0.5 and 0.7. Of the pairs with 0.9, one has the lower score and one is a tie."""
    assert auroc_of_bad([0.6, 0.2, 0.6], DICE) == pytest.approx(0.75)
    assert auroc_of_bad([0.6, 0.2, 0.6], DICE, acceptable=0.6) == pytest.approx(1)
    assert auroc_of_bad([0.6, 0.2, 0.6], DICE, acceptable=0.1) is None
    assert auroc_of_bad([0.6, 0.2, 0.6], DICE, acceptable=0.95) is None


def test_what_cannot_be_said_is_none() -> None:
    assert spearman([], []) is None
    assert spearman([1], [1]) is None
    assert spearman([1, 1], [0.2, 0.3]) is None
    assert pearson([1, 2], [0.3, 0.3]) is None
    assert mean_absolute_error([], []) is None
    assert interval_coverage([], [], []) is None
    assert auroc_of_bad([], []) is None
    assert selective_risk([], []) is None
    with pytest.raises(ValueError, match="no values"):
        risk_coverage([], [])


def test_what_is_not_known_is_left_out_or_refused() -> None:
    scores, dice = known_pairs([0.1, None, 0.3, float("nan")], [0.5, 0.6, None, 0.8])
    assert scores.tolist() == [0.1]
    assert dice.tolist() == [0.5]
    assert [len(part) for part in known_pairs([], [])] == [0, 0]
    with pytest.raises(ValueError, match="must be finite"):
        spearman([0.1, float("nan")], [0.5, 0.6])
    with pytest.raises(ValueError, match="one length"):
        selective_risk([0.1], [0.5, 0.6])


@given(PAIRS)
def test_no_score_is_better_than_the_truth(pairs: list[tuple[float, float]]) -> None:
    scores, dice = columns(pairs)
    found, truth = selective_risk(scores, dice), selective_risk(dice, dice)
    assert found is not None
    assert truth is not None
    assert found.excess >= -1e-12
    assert truth.excess == 0
    assert truth.normalised in (0, None)
    assert found.random == pytest.approx(1 - dice.mean())


@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(
    pairs: list[tuple[float, float]], random: Random
) -> None:
    shuffled = random.sample(pairs, len(pairs))
    assert selective_risk(*columns(pairs)) == selective_risk(*columns(shuffled))
    assert auroc_of_bad(*columns(pairs)) == auroc_of_bad(*columns(shuffled))


@given(PAIRS)
def test_only_the_order_of_the_scores_matters(pairs: list[tuple[float, float]]) -> None:
    scores, dice = columns(pairs)
    assert selective_risk(scores, dice) == selective_risk(np.exp(3 * scores), dice)
    assert auroc_of_bad(scores, dice) == auroc_of_bad(np.exp(3 * scores), dice)


@given(PAIRS)
def test_a_score_and_its_opposite_share_chance(pairs: list[tuple[float, float]]) -> None:
    scores, dice = columns(pairs)
    area, opposite = auroc_of_bad(scores, dice), auroc_of_bad(-scores, dice)
    assert (area is None) == (opposite is None)
    if area is not None and opposite is not None:
        assert area + opposite == pytest.approx(1)


@given(PAIRS)
def test_ties_are_the_mean_over_all_their_orders(pairs: list[tuple[float, float]]) -> None:
    """Many random orders of equal scores have the same mean area."""
    scores, dice = columns(pairs)
    rng = np.random.default_rng(0)
    areas = [risk_coverage(scores + 1e-6 * rng.random(len(dice)), dice).area for _ in range(400)]
    assert np.mean(areas) == pytest.approx(risk_coverage(scores, dice).area, abs=0.04)
