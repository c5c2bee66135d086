"""When islands are errors: hand-made cases, and what is decided from them."""

from __future__ import annotations

import numpy as np
import pytest

from medseg_nca.config import Label, LabelTable
from medseg_nca.inference.largest import Change, IslandTrial, judge

TABLE = LabelTable(labels=(Label(name="a", values=(3,)), Label(name="b", values=(7,))))
SPACING = (1.0, 1.0)


def body(*, islands: bool = False, two: bool = False) -> np.ndarray:
    """Two organs that touch, 6 x 6 and 6 x 4; islands of ``a``; a second part of ``b``."""
    found = np.zeros((24, 24), np.uint8)
    found[4:10, 4:10], found[4:10, 10:14] = 3, 7
    if islands:
        found[20:22, 20:22] = 3
    if two:
        found[16:20, 4:8] = 7
    return found


def decided(*cases: tuple[np.ndarray, np.ndarray]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    trial = IslandTrial(TABLE)
    for predicted, truth in cases:
        trial.add(predicted, truth, SPACING)
    return trial.decide()


def test_islands_that_are_errors_go() -> None:
    names, reasons = decided(*[(body(islands=True), body())] * 3)
    assert names == ("merged",)
    # a: 2 * 36 / (36 + 40), b: 1; both are right without the island.
    assert "all labels together only the largest part is kept" in reasons[0]
    assert "Dice 0.9737 without it, 1.0000 with it (better in 3, worse in 0 of 3" in reasons[0]
    assert "it changes nothing in 3 validation cases" in reasons[1]


def test_a_label_is_cleared_where_the_union_cannot_be() -> None:
    """Two organs apart from each other: together they have two parts, each of them has one."""
    truth = np.zeros((24, 24), np.uint8)
    truth[2:8, 2:8], truth[14:20, 14:20] = 3, 7
    predicted = truth.copy()
    predicted[14:16, 2:4] = 3
    names, reasons = decided(*[(predicted, truth)] * 4)
    assert names == ("a",)
    assert "in 4 of 4 validation cases there truly are several" in reasons[0]


def test_a_label_of_several_parts_is_left_alone() -> None:
    """Even if the model finds the larger of them only, and rubbish that is larger than nothing."""
    good = body(two=True), body(two=True)
    assert decided(*[good] * 5)[0] == ()
    rubbish = body()
    rubbish[20:22, 20:22] = 7
    one_with_two = [(rubbish, body())] * 6 + [(body(), body(two=True))]
    names, reasons = decided(*one_with_two)
    assert names == ()
    assert "in 1 of 7 validation cases there truly are several" in reasons[2]
    assert decided(*one_with_two[:-1])[0] == ("merged",)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_two_cases_prove_nothing(count: int) -> None:
    names, reasons = decided(*[(body(islands=True), body())] * count)
    assert names == ()
    assert len(reasons) == 3
    assert all("fewer than 3 prove nothing" in reason for reason in reasons)


def change(before: float, after: float, hd: tuple[float, float] | None, voxels: int = 5) -> Change:
    return Change(voxels, (before, after), hd, apart=0.0)


def test_better_on_the_mean_is_not_enough() -> None:
    """One case that gains much does not outweigh two that lose."""
    lucky = [change(0.5, 0.9, (9, 2)), change(0.8, 0.79, (3, 4)), change(0.8, 0.79, (3, 4))]
    assert not judge(lucky).helps
    assert judge([*lucky, *[change(0.8, 0.81, (3, 2))] * 2]).helps


def test_the_same_dice_and_a_smaller_distance() -> None:
    same = [change(0.8, 0.8001, (20.0, 5.0)), change(0.8, 0.7999, (3.0, 3.0)),
            change(0.8, 0.8, (4.0, 3.0))]  # fmt: skip
    verdict = judge(same)
    assert verdict.helps
    assert "HD95 9.0 and 3.7 mm (better in 2, worse in 0 of 3 cases)" in verdict.reason
    assert not judge([change(0.8, 0.8, (3.0, 20.0))] * 3).helps
    assert not judge([change(0.8, 0.8, (3.0, 3.0))] * 3).helps
    assert not judge([change(0.8, 0.8001, None)] * 3).helps
    worse = [change(0.8, 0.79, (20.0, 1.0))] * 5
    assert not judge(worse).helps


def test_what_has_a_price_must_be_worth_it() -> None:
    little = [change(0.8, 0.801, (20.0, 5.0))] * 3
    assert judge(little).helps
    assert not judge(little, worth=0.002).helps
    assert judge([change(0.8, 0.803, (3.0, 4.0))] * 3, worth=0.002).helps


def test_a_single_label_is_not_asked_for_twice() -> None:
    table = LabelTable(labels=(Label(name="a", values=(3,)),))
    trial = IslandTrial(table)
    for _ in range(3):
        predicted, truth = body(islands=True), body()
        trial.add(np.where(predicted == 3, 3, 0), np.where(truth == 3, 3, 0), SPACING)
    names, reasons = trial.decide()
    assert names == ("a",)
    assert len(reasons) == 1


def test_an_image_without_the_label() -> None:
    """The largest part of nothing but errors stays, and costs what it costs: no case is lost."""
    nothing = np.zeros((24, 24), np.uint8)
    names, _ = decided((nothing, nothing), (body(islands=True), body()), (nothing, body()))
    assert names == ("merged",)
