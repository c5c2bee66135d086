"""Measures of the differences of passes, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg_nca.config import LabelTable
from medseg_nca.trust.baselines import baselines

ONE = {"labels": [{"name": "a", "values": [1]}]}
TABLE = LabelTable.model_validate(ONE)
OVERLAPPING = LabelTable.model_validate({**ONE, "multi_label": True})


def passes(*chances: list[float]) -> list[np.ndarray]:
    """Probabilities of background and label on a row of voxels."""
    return [np.array([[1 - p for p in row], row], np.float32) for row in chances]


def test_two_passes_by_hand() -> None:
    """Means 0.7, 0.6, 0.1 and deviations 0.1, 0.2, 0.1: two voxels are in the mask."""
    found = baselines(passes([0.6, 0.8, 0.0], [0.8, 0.4, 0.2]), TABLE)["a"]
    assert found.nqm == pytest.approx(0.4 / 2)
    # The masks are {0, 1} and {0}: 2 * 1 / 3.
    assert found.pairwise_dice == pytest.approx(2 / 3)
    entropies = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in (0.7, 0.6)]
    assert found.entropy == pytest.approx(np.mean(entropies), rel=1e-5)


def test_overlapping_labels_have_the_entropy_of_their_own_channel() -> None:
    rows = [row[1:] for row in passes([0.6, 0.8, 0.0], [0.8, 0.4, 0.2])]
    assert baselines(rows, OVERLAPPING)["a"].entropy == pytest.approx(
        baselines(passes([0.6, 0.8, 0.0], [0.8, 0.4, 0.2]), TABLE)["a"].entropy, rel=1e-5
    )


def test_passes_that_agree_are_perfect() -> None:
    found = baselines(passes(*[[1.0, 0.0]] * 8), TABLE)["a"]
    assert found.nqm == 0
    assert found.pairwise_dice == 1
    assert found.entropy == pytest.approx(0, abs=1e-9)


def test_one_pass_has_an_entropy_alone() -> None:
    found = baselines(passes([0.5, 0.9]), TABLE)["a"]
    assert found.nqm is None
    assert found.pairwise_dice is None
    assert found.entropy is not None


def test_an_empty_mask_has_no_measures() -> None:
    found = baselines(passes([0.4, 0.1], [0.2, 0.3]), TABLE)["a"]
    assert (found.nqm, found.pairwise_dice, found.entropy) == (None, None, None)
