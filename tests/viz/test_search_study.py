"""What the figures of a search rest on: fronts, ranks, and the scales of settings."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.viz.search_study import (
    ObjectiveView,
    ParameterView,
    StudyView,
    TrialView,
    short_number,
)

DICE = ObjectiveView("dice", "Dice", maximise=True)
LATENCY = ObjectiveView("latency_ms", "latency (ms)", maximise=False)


def study(*values: tuple[float, ...], objectives: tuple[ObjectiveView, ...]) -> StudyView:
    trials = [TrialView(n, "complete", value, {}) for n, value in enumerate(values)]
    return StudyView(objectives, [], trials)


def test_the_front_is_what_no_other_trial_beats() -> None:
    view = study((0.8, 5.0), (0.9, 9.0), (0.7, 6.0), (0.8, 4.0), (0.9, 9.0), (0.1, 1.0),
                 objectives=(DICE, LATENCY))  # fmt: skip
    assert [trial.number for trial in view.front] == [1, 3, 5]  # 4 is equal to 1, and later
    assert [trial.number for trial in view.ranked] == [1, 3, 5, 4, 0, 2]


def test_one_objective_has_one_best_trial_and_minimised_ones_their_least() -> None:
    assert [t.number for t in study((0.2,), (0.9,), (0.9,), objectives=(DICE,)).front] == [1]
    assert [t.number for t in study((3,), (1,), (2,), objectives=(LATENCY,)).ranked] == [1, 2, 0]


def test_without_a_complete_trial_there_is_no_front() -> None:
    view = StudyView(
        [DICE], [], [TrialView(0, "pruned", None, {}), TrialView(1, "failed", None, {})]
    )
    assert view.front == []
    assert view.ranked == []


pairs = st.lists(st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float)), min_size=1)


@given(pairs)
def test_every_trial_is_on_the_front_or_no_better_than_one_that_is(
    values: list[tuple[float, float]],
) -> None:
    view = study(*values, objectives=(DICE, LATENCY))
    front = [trial.values for trial in view.front if trial.values]
    for dice, latency in values:
        assert any(d >= dice and ms <= latency for d, ms in front)
    for one in front:
        assert not any(o != one and o[0] >= one[0] and o[1] <= one[1] for o in front)
    assert sorted(trial.number for trial in view.ranked) == list(range(len(values)))


def test_places_on_linear_and_logarithmic_axes_and_among_choices() -> None:
    assert ParameterView("a", 0, 4).place(1) == 0.25
    assert ParameterView("a", 1e-4, 1, log=True).place(1e-2) == pytest.approx(0.5)
    assert ParameterView("a", 3, 3).place(3) == 0.5
    choices = ParameterView("a", 0, 2, choices=("None", "True", "dice"))
    assert [choices.place(choices.number(v)) for v in (None, True, "dice")] == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("parameter", "captions"),
    [
        (ParameterView("lr", 1e-4, 1e-1, log=True), ["0.0001", "0.001", "0.01", "0.1"]),
        (ParameterView("hidden", 16, 128, log=True, integer=True), ["16", "32", "64", "128"]),
        (ParameterView("rate", 0.2, 1.0), ["0.2", "0.4", "0.6", "0.8", "1"]),
        (ParameterView("levels", 1, 3, integer=True), ["1", "2", "3"]),
        (ParameterView("one", 7, 7, integer=True), ["7"]),
        (ParameterView("loss", 0, 1, choices=("dice", "ce")), ["dice", "ce"]),
    ],
    ids=lambda value: value.name if isinstance(value, ParameterView) else None,
)
def test_ticks_are_the_ends_and_round_numbers(
    parameter: ParameterView, captions: list[str]
) -> None:
    assert list(parameter.ticks().values()) == captions


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), st.booleans(), st.booleans())
def test_ticks_lie_on_the_axis_in_their_order(
    one: float, other: float, log: bool, integer: bool
) -> None:
    low, high = sorted((math.ceil(one), math.ceil(other)) if integer else (one, other))
    parameter = ParameterView("p", low, high, log=log, integer=integer)
    places = [parameter.place(number) for number in parameter.ticks()]
    assert places == sorted(places)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)


@pytest.mark.parametrize(
    ("value", "text"),
    [(17842, "17,842"), (0.88732, "0.887"), (-3.0, "−3"), (1.6e-5, "1.6e−5"), (1234.5, "1,234"),
     (float("nan"), "–"), (1e12, "1,000,000,000,000")],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert short_number(value) == text
