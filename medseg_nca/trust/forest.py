"""Regression trees that are fitted by scikit-learn, kept as plain numbers and evaluated here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.trust import Tree

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

# Extremely randomised trees (Geurts et al., Machine Learning 2006). Few and small ones keep the
# model's file small: against 200 trees without a limit, 30 trees of 128 leaves lost 0.005 of a rank
# correlation of 0.900 (zoo:hippocampus, 30 cases to fit, 40 to test).
TREES, LEAVES, LEAF_ROWS = 30, 160, 3
_DIGITS = 4


def fit_forest(rows: Matrix, dice: Vector, weight: Vector, seed: int = 0) -> tuple[Tree, ...]:
    """Fit trees whose mean predicts the Dice.

    Args:
        rows: features as :func:`.row_of` gives them, ``(rows, features)``.
        dice: true Dice of each row.
        weight: weight of each row.
        seed: of the fit; the same seed gives the same trees.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(
        TREES, max_leaf_nodes=LEAVES, min_samples_leaf=min(LEAF_ROWS, len(rows)),
        max_features=0.5, random_state=seed,
    )  # fmt: skip
    forest.fit(rows, dice, sample_weight=weight)
    return tuple(_plain(one.tree_) for one in forest.estimators_)


def predict_forest(trees: Sequence[Tree], rows: Matrix) -> Vector:
    """Return the mean of the trees for each row ``(rows, features)``, between 0 and 1."""
    found = [[_leaf(tree, row) for tree in trees] for row in rows.tolist()]
    mean: Vector = np.array(found, np.float64).reshape(len(rows), len(trees)).mean(axis=1)
    return np.clip(mean, 0.0, 1.0)


def _leaf(tree: Tree, row: Sequence[float]) -> float:
    feature, number, right = tree.feature, tree.number, tree.right
    node = 0
    while feature[node] >= 0:
        node = node + 1 if row[feature[node]] <= number[node] else right[node]
    return number[node]


def _plain(tree: Any) -> Tree:
    """Return a tree of scikit-learn with its nodes in the order of :class:`Tree`."""
    features: list[int] = []
    numbers: list[float] = []
    rights: list[int] = []
    waiting = [(0, -1)]  # a node, and the place whose right branch it begins
    while waiting:
        node, parent = waiting.pop()
        if parent >= 0:
            rights[parent] = len(features)
        left, right = int(tree.children_left[node]), int(tree.children_right[node])
        leaf = left < 0
        number = tree.value[node].item() if leaf else tree.threshold[node]
        features.append(-1 if leaf else int(tree.feature[node]))
        numbers.append(float(f"{number:.{_DIGITS}g}"))
        rights.append(0)
        if not leaf:
            waiting += [(right, len(features) - 1), (left, -1)]
    return Tree(feature=tuple(features), number=tuple(numbers), right=tuple(rights))
