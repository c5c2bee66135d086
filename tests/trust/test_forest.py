"""Trees as plain numbers answer as scikit-learn's do."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.ensemble import ExtraTreesRegressor

from medseg_nca.config.trust import Tree
from medseg_nca.trust.forest import LEAF_ROWS, LEAVES, TREES, fit_forest, predict_forest


def rows_of(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 6))
    return rows, np.clip(0.7 + 0.2 * rows[:, 0] - 0.1 * np.abs(rows[:, 3]), 0, 1)


def test_a_tree_worked_by_hand() -> None:
    """Feature 1 up to 0.5 gives 0.2; above it feature 0 up to -1 gives 0.6, else 0.9."""
    tree = Tree(
        feature=(1, -1, 0, -1, -1), number=(0.5, 0.2, -1.0, 0.6, 0.9), right=(2, 0, 4, 0, 0)
    )
    found = predict_forest((tree,), np.array([[0.0, 0.5], [-1.0, 0.6], [-0.9, 0.6]]))
    assert found.tolist() == [0.2, 0.6, 0.9]
    half = Tree(feature=(-1,), number=(0.4,), right=(0,))
    assert predict_forest((tree, half), np.zeros((1, 2))).tolist() == pytest.approx([0.3])


def test_plain_trees_answer_as_those_of_scikit_learn() -> None:
    rows, dice = rows_of(300)
    weight = np.ones(300)
    forest = ExtraTreesRegressor(
        TREES, max_leaf_nodes=LEAVES, min_samples_leaf=LEAF_ROWS, max_features=0.5, random_state=5
    ).fit(rows, dice, sample_weight=weight)
    new, _ = rows_of(200, seed=1)
    found = predict_forest(fit_forest(rows, dice, weight, seed=5), new)
    # Numbers of four digits can lead a row that lies on a threshold the other way.
    assert np.median(np.abs(found - forest.predict(new))) < 1e-3
    assert np.abs(found - forest.predict(new)).max() < 0.02


def test_the_same_seed_gives_the_same_trees() -> None:
    rows, dice = rows_of(60)
    first, again = (fit_forest(rows, dice, np.ones(60), seed=2) for _ in range(2))
    assert first == again
    assert first != fit_forest(rows, dice, np.ones(60), seed=3)


@pytest.mark.parametrize(
    ("feature", "number", "right"),
    [
        ((0, -1), (0.5, 0.2), (5, 0)),  # a branch outside
        ((0, -1, -1), (0.5, 0.2, 0.3), (0, 0, 0)),  # a branch that leads back
        ((0, -1, -1), (0.5, 0.2), (2, 0, 0)),  # lists of two lengths
        ((0, -1, -1), (float("nan"), 0.2, 0.3), (2, 0, 0)),
    ],
)
def test_a_tree_that_does_not_end_is_refused(
    feature: tuple[int, ...], number: tuple[float, ...], right: tuple[int, ...]
) -> None:
    with pytest.raises(ValidationError):
        Tree(feature=feature, number=number, right=right)
