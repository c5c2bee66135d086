"""Features of answers, worked by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from medseg_nca.trust.features import Certainty, Observation, dice, measure

SURE = Certainty(0.9, 0.2, 0.1)


def observed(
    answer: np.ndarray, second: np.ndarray | None = None, **changes: object
) -> Observation:
    image = np.random.default_rng(0).normal(size=(1, *answer.shape)).astype(np.float32)
    values: dict[str, object] = {
        "image": image, "spacing": (1.0,) * answer.ndim, "answer": answer,
        "second": answer if second is None else second, "values": {"a": {1}, "b": {2}},
        "certainty": {"a": SURE, "b": SURE},
    }  # fmt: skip
    return Observation(**{**values, **changes})  # type: ignore[arg-type]


def square(size: int = 12) -> np.ndarray:
    answer = np.zeros((size, size), np.uint8)
    answer[2:6, 4:8] = 1
    return answer


def test_agreement_and_growth() -> None:
    second = np.zeros((12, 12), np.uint8)
    second[2:6, 4:6] = 1
    found = measure(observed(square(), second))
    assert found["a"]["agreement"] == pytest.approx(2 * 8 / (16 + 8))
    assert found["a"]["growth"] == pytest.approx(log(9) - log(17))
    assert found["b"]["agreement"] == 1.0  # neither has it
    assert found["a"]["joint_agreement"] == pytest.approx((2 / 3 + 1) / 2)


def test_the_shape_of_a_square() -> None:
    found = measure(observed(square(), spacing=(2.0, 0.5)))["a"]
    assert found["log_volume"] == pytest.approx(log(16 + 1))
    assert found["extent_0"] == pytest.approx(log(4 * 2 + 1))
    assert found["extent_1"] == pytest.approx(log(4 * 0.5 + 1))
    assert found["place_0"] == pytest.approx(3.5 / 11)
    assert found["offset_0"] == found["offset_1"] == 0.0
    assert found["parts"] == 0.0
    assert found["largest"] == 1.0
    assert found["surface"] == pytest.approx((16 - 4) / 4)
    assert found["cut_off"] == 0.0


def test_parts_and_an_end_at_the_border() -> None:
    answer = square()
    answer[0, 0:4] = 1
    found = measure(observed(answer))["a"]
    assert found["parts"] == pytest.approx(log(2))
    assert found["largest"] == pytest.approx(16 / 20)
    assert found["cut_off"] == pytest.approx((4 + 1) / 20)


def test_the_dice_that_probabilities_promise() -> None:
    found = measure(observed(square()))["a"]
    assert found["expected_dice"] == pytest.approx(2 * 0.9 / (1 + 0.9 + 0.1))


def test_an_empty_answer_has_the_same_features_as_others() -> None:
    empty = np.zeros((12, 12), np.uint8)
    found = measure(observed(empty, certainty={"a": Certainty(0, 0, 0), "b": Certainty(0, 0, 0)}))
    assert found["a"]["log_volume"] == 0.0
    assert list(found["a"]) == list(measure(observed(square()))["a"])
    assert all(np.isfinite(value) for value in found["a"].values())


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (7, 1, 6), (1, 1, 1), (3, 4, 5)])
def test_every_shape_has_finite_features(shape: tuple[int, ...]) -> None:
    answer = np.ones(shape, np.uint8)
    for features in measure(observed(answer)).values():
        assert all(np.isfinite(value) for value in features.values())


def test_scale_of_the_intensities_does_not_change_the_texture() -> None:
    one = observed(square())
    two = observed(square(), image=7 * one.image)
    first, second = measure(one)["a"], measure(two)["a"]
    for name in ("slope_0", "bend_1", "skewness"):
        assert first[name] == pytest.approx(second[name], rel=1e-4)


def test_dice_of_two_empty_masks_is_1() -> None:
    empty = np.zeros(4, bool)
    assert dice(empty, empty) == 1.0
    assert dice(empty, ~empty) == 0.0
