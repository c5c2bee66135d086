"""Where answers with several seeds differ, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from medseg_nca.dynamics.seeds import disagreement


def test_labels_differ_by_the_share_of_the_seeds_that_are_outvoted() -> None:
    answers = np.array([[[1, 2, 0]], [[1, 2, 1]], [[1, 0, 2]], [[1, 2, 3]]])
    assert disagreement(answers, smooth=False) == pytest.approx([0, 0.25, 0.75])


def test_real_values_differ_by_their_standard_deviation() -> None:
    answers = np.array([[[1.0, 2.0]], [[1.0, 4.0]]])
    assert disagreement(answers, smooth=True) == pytest.approx([0, 1])
