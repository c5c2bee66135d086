"""Metrics of a case: overlaps and volumes by hand, and the rules for empty masks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from medseg_nca.config import LabelTable
from medseg_nca.errors import DataError
from medseg_nca.metrics.definitions import METRICS
from medseg_nca.metrics.masks.base import MaskPair
from medseg_nca.metrics.overlap import dice_by_label
from medseg_nca.metrics.segmentation import case_metrics, mask_metrics

TWO = LabelTable.model_validate(
    {"labels": [{"name": "a", "values": [1]}, {"name": "b", "values": [2]}]}
)


def line(*values: int) -> np.ndarray:
    """A 2D label map of one row."""
    return np.array([values])


@pytest.mark.parametrize(
    ("found", "true", "dice", "sensitivity", "precision", "relative"),
    [
        ((1, 1, 0, 0), (1, 1, 0, 0), 1.0, 1.0, 1.0, 0.0),
        ((1, 1, 1, 0), (0, 1, 1, 1), 2 / 3, 2 / 3, 2 / 3, 0.0),
        ((1, 1, 1, 1), (0, 0, 0, 1), 0.4, 1.0, 0.25, 3.0),
        ((1, 0, 0, 0), (1, 1, 1, 1), 0.4, 0.25, 1.0, -0.75),
        ((1, 0, 0, 0), (0, 0, 0, 1), 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_overlap(
    found: Any, true: Any, dice: float, sensitivity: float, precision: float, relative: float
) -> None:
    values = case_metrics(line(*found), line(*true), TWO, (1, 1), 1.0)["a"]
    assert values["dice"] == pytest.approx(dice)
    assert values["sensitivity"] == pytest.approx(sensitivity)
    assert values["precision"] == pytest.approx(precision)
    assert values["relative_volume_difference"] == pytest.approx(relative)


def test_volumes_in_millilitres_and_areas_in_square_millimetres() -> None:
    solid = np.zeros((4, 4, 4), dtype=bool)
    solid[:2, :2, :2] = True
    values = mask_metrics(solid, solid[::-1] | solid, (10, 5, 2), 1.0)
    # 8 voxels of 100 mm^3 against 16.
    assert values["volume"] == pytest.approx(0.8)
    assert values["truth_volume"] == pytest.approx(1.6)
    assert values["volume_difference"] == pytest.approx(-0.8)
    assert mask_metrics(solid[0], solid[0], (5, 2), 1.0)["volume"] == pytest.approx(40.0)


def test_merged_is_the_union() -> None:
    """Confusing two labels costs each of them, and the union nothing."""
    values = case_metrics(line(0, 1, 2, 0), line(0, 2, 1, 0), TWO, (1, 1), 1.0)
    assert (values["a"]["dice"], values["b"]["dice"]) == (0.0, 0.0)
    assert values["merged"]["dice"] == 1.0
    assert values["merged"]["hd"] == 0.0


def test_neither_has_the_label() -> None:
    values = case_metrics(line(0, 1, 0), line(0, 1, 0), TWO, (1, 1), 1.0)["b"]
    numbers = {name: value for name, value in values.items() if value is not None}
    assert numbers == {"volume_difference": 0.0, "volume": 0.0, "truth_volume": 0.0}


@pytest.mark.parametrize(
    ("found", "true", "sensitivity", "precision"),
    [((0, 1, 0), (0, 0, 0), None, 0.0), ((0, 0, 0), (0, 1, 0), 0.0, None)],
)
def test_only_one_has_the_label(
    found: Any, true: Any, sensitivity: float | None, precision: float | None
) -> None:
    """The worst distance is the image's diagonal: 1 x 3 pixels of 4 x 1 mm, 5 mm."""
    values = case_metrics(line(*found), line(*true), TWO, (4, 1), 1.0)["a"]
    assert (values["dice"], values["nsd"]) == (0.0, 0.0)
    assert (values["hd"], values["hd95"], values["assd"]) == (5.0, 5.0, 5.0)
    assert (values["sensitivity"], values["precision"]) == (sensitivity, precision)


def test_columns_keep_their_order() -> None:
    """People read metrics.csv by the place of a column, too."""
    assert list(METRICS) == [
        "dice", "hd95", "hd", "assd", "nsd", "sensitivity", "precision", "volume_difference",
        "relative_volume_difference", "volume", "truth_volume",
    ]  # fmt: skip


def test_only_the_metrics_that_are_asked_for() -> None:
    solid = np.ones((3, 3), dtype=bool)
    assert mask_metrics(solid, solid, (1, 1), 1.0, ["nsd", "dice"]) == {"nsd": 1.0, "dice": 1.0}


def test_every_metric_is_there() -> None:
    values = case_metrics(line(0, 1, 2), line(0, 1, 1), TWO, (1, 1), 1.0)
    assert list(values) == ["a", "b", "merged"]
    assert all(set(row) == set(METRICS) for row in values.values())


def test_written_and_source_numbers() -> None:
    """A prediction carries what the table writes, the truth any of the source's numbers."""
    table = LabelTable.model_validate({"labels": [{"name": "a", "values": [3, 7], "write": 1}]})
    assert case_metrics(line(1, 1, 0), line(3, 7, 0), table, (1, 1), 1.0)["a"]["dice"] == 1.0
    other = LabelTable.model_validate({"labels": [{"name": "A", "values": [255]}]})
    values = case_metrics(line(1, 0), line(255, 0), table, (1, 1), 1.0, truth_labels=other)
    assert values["a"]["dice"] == 1.0


def test_nested_regions() -> None:
    """In a multi-label map the inner region covers the outer one and still counts as part of it."""
    table = LabelTable.model_validate(
        {
            "labels": [
                {"name": "whole", "values": [1, 2], "write": 1},
                {"name": "core", "values": [2]},
            ],
            "multi_label": True,
        }
    )
    values = case_metrics(line(1, 2, 0), line(1, 2, 0), table, (1, 1), 1.0)
    assert (values["whole"]["dice"], values["core"]["dice"]) == (1.0, 1.0)


def test_what_metrics_share_is_computed_once() -> None:
    solid = np.zeros((5, 6, 4), dtype=bool)
    solid[1:3, 2:4, 1:3] = True
    pair = MaskPair(solid, np.roll(solid, 1, 0), (1.0, 1.0, 1.0), tolerance=1.0)
    assert pair.distances is pair.distances
    assert pair.areas_and_distances is pair.areas_and_distances
    assert pair.counts is pair.counts


def test_shapes_must_agree() -> None:
    with pytest.raises(DataError, match="shape"):
        case_metrics(line(0, 1), line(0, 1, 2), TWO, (1, 1), 1.0)


def test_no_label_is_called_merged() -> None:
    table = LabelTable.model_validate({"labels": [{"name": "merged", "values": [1]}]})
    with pytest.raises(DataError, match="merged"):
        case_metrics(line(0, 1), line(0, 1), table, (1, 1), 1.0)


@settings(max_examples=30, deadline=None)
@given(prediction=arrays(np.uint8, (4, 5, 3), elements={"max_value": 2}),
       truth=arrays(np.uint8, (4, 5, 3), elements={"max_value": 2}))  # fmt: skip
def test_swapping_prediction_and_truth(prediction: Any, truth: Any) -> None:
    """Dice and distances stay; sensitivity and precision change places; differences turn over."""
    one = case_metrics(prediction, truth, TWO, (1, 2, 1.5), 1.0)
    two = case_metrics(truth, prediction, TWO, (1, 2, 1.5), 1.0)
    for label, values in one.items():
        other = two[label]
        for name in ("dice", "hd", "hd95", "assd", "nsd"):
            mirrored = other[name]
            assert values[name] == (mirrored if mirrored is None else pytest.approx(mirrored))
        assert values["sensitivity"] == other["precision"]
        assert values["volume_difference"] == -(other["volume_difference"] or 0.0)
        assert all(v is None or math.isfinite(v) for v in values.values())
    quick = dice_by_label(prediction, truth, TWO)
    assert quick == {name: one[name]["dice"] for name in TWO.names}
