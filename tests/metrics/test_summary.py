"""What is reported of all cases."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from medseg_nca.config import LabelTable
from medseg_nca.config.training import EvaluationSettings
from medseg_nca.metrics.definitions import METRICS
from medseg_nca.metrics.segmentation import case_metrics
from medseg_nca.metrics.summary import CaseResult, bootstrap_interval, summarise, table_rows

TABLE = LabelTable.model_validate(
    {"labels": [{"name": "a", "values": [1]}, {"name": "b", "values": [2]}]}
)
# Dice of a: 1, 2/3, 0; of b: 1, 0, and once neither has it.
MAPS = {
    "x": ([1, 1, 2, 2], [1, 1, 2, 2]),
    "y": ([1, 0, 2, 0], [1, 1, 0, 0]),
    "z": ([1, 0, 0, 0], [0, 0, 0, 0]),
}
SETTINGS = EvaluationSettings(bootstrap=200)


@pytest.fixture(name="cases")
def cases_fixture() -> list[CaseResult]:
    return [
        CaseResult(
            name,
            case_metrics(np.array([found]), np.array([true]), TABLE, (1, 1), 1.0),
            {"seconds": 0.5},
        )
        for name, (found, true) in MAPS.items()
    ]


def test_means_stand_on_the_cases_that_have_a_value(cases: list[CaseResult]) -> None:
    tree = summarise(cases, SETTINGS)
    assert tree["labels"]["a"]["dice"]["mean"] == pytest.approx(5 / 9, abs=1e-6)
    assert tree["labels"]["a"]["dice"]["median"] == pytest.approx(2 / 3, abs=1e-6)
    assert tree["labels"]["a"]["dice"]["n"] == 3
    assert tree["labels"]["b"]["dice"]["mean"] == pytest.approx(0.5)
    assert tree["labels"]["b"]["dice"]["n"] == 2
    assert tree["mean_dice"] == pytest.approx((5 / 9 + 0.5) / 2, abs=1e-6)
    assert tree["tolerance_mm"] == 1.0


def test_it_says_in_whom_a_label_is(cases: list[CaseResult]) -> None:
    presence = summarise(cases, SETTINGS)["labels"]
    order = ("both", "truth_only", "prediction_only", "neither")
    assert [presence["a"]["presence"][key] for key in order] == [2, 0, 1, 0]
    assert [presence["b"]["presence"][key] for key in order] == [1, 0, 1, 1]


def test_tree_is_plain_json_and_complete(cases: list[CaseResult]) -> None:
    tree = json.loads(json.dumps(summarise(cases, SETTINGS), allow_nan=False))
    for part in (*tree["labels"].values(), tree["merged"]):
        for metric in METRICS:
            assert set(part[metric]) == {"mean", "median", "sd", "ci95", "n"}
    assert [case["id"] for case in tree["cases"]] == ["x", "y", "z"]
    assert tree["cases"][0]["seconds"] == 0.5
    assert tree["cases"][2]["labels"]["b"]["dice"] is None
    assert tree["cases"][1]["mean_dice"] == pytest.approx(1 / 3, abs=1e-6)
    assert any("diagonal" in rule for rule in tree["rules"])


def test_same_seed_same_interval(cases: list[CaseResult]) -> None:
    assert summarise(cases, SETTINGS) == summarise(cases, SETTINGS)
    low, high = summarise(cases, SETTINGS)["mean_dice_ci95"]
    assert low < summarise(cases, SETTINGS)["mean_dice"] < high


def test_another_confidence_has_another_name(cases: list[CaseResult]) -> None:
    tree = summarise(cases, EvaluationSettings(bootstrap=50, confidence=0.9))
    assert "ci90" in tree["merged"]["dice"]
    assert "mean_dice_ci90" in tree


def test_one_case_has_no_interval(cases: list[CaseResult]) -> None:
    tree = summarise(cases[:1], SETTINGS)
    assert tree["mean_dice"] == 1.0
    assert tree["mean_dice_ci95"] is None
    assert tree["labels"]["a"]["dice"]["sd"] is None


def test_interval_comes_near_the_normal_one() -> None:
    """For 400 draws of sd 1 the 95 % interval of the mean is about +- 1.96 / 20."""
    values = np.random.default_rng(1).normal(10, 1, 400)
    found = bootstrap_interval(values, resamples=4000, confidence=0.95)
    assert found is not None
    low, high = found
    half = 1.96 * values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_missing_values_do_not_move_the_interval() -> None:
    values = np.array([1.0, 1.0, math.nan, 1.0])
    assert bootstrap_interval(values, resamples=100, confidence=0.95) == (1.0, 1.0)


def test_a_row_for_each_case_and_label(cases: list[CaseResult]) -> None:
    rows = table_rows(cases)
    assert [(row["case"], row["label"]) for row in rows[:3]] == [
        ("x", "a"), ("x", "b"), ("x", "merged"),
    ]  # fmt: skip
    assert rows[0]["dice"] == 1.0
    assert rows[7]["hd95"] is None
