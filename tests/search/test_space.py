from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.config.loading import load_settings
from medseg_nca.errors import ConfigError
from medseg_nca.search.budget import budget_of, parse_budget
from medseg_nca.search.check import check_space, objectives_of
from medseg_nca.search.dimension import Dimension, dimension
from medseg_nca.search.space import (
    default_space,
    parse_tune,
    read_space,
    with_tuned,
    with_values,
)
from medseg_nca.tasks import TASKS

TASK = TASKS.get("segmentation")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.lr=log:1e-4..1e-2", Dimension("training.lr", "log", 1e-4, 1e-2)),
        ("a=0.3..0.9", Dimension("a", "float", 0.3, 0.9)),
        ("a=float:1..2", Dimension("a", "float", 1.0, 2.0)),
        ("a=-2..-1", Dimension("a", "int", -2, -1)),
        ("a=8..32", Dimension("a", "int", 8, 32)),
        ("a=int:8..32:8", Dimension("a", "int", 8, 32, 8)),
        ("a=8,16,32", Dimension("a", "choice", choices=(8, 16, 32))),
        ("a=[1, 2],[3, 4]", Dimension("a", "choice", choices=([1, 2], [3, 4]))),
        ("a=rms,null", Dimension("a", "choice", choices=("rms", None))),
    ],
)
def test_tune_reads_ranges_and_choices(text: str, expected: Dimension) -> None:
    assert parse_tune(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training.lr", "which values"),
        ("training.lr=", "which values"),
        ("training.lr=log:1e-2..1e-4", "reversed"),
        ("training.lr=1..1", "empty"),
        ("training.lr=log:0..1", "above 0"),
        ("training.lr=a..b", "not a finite number"),
        ("a=int:1..2.5", "not a whole number"),
        ("a=1..9:10", "step must be"),
        ("a=8", "one choice only"),
        ("a=8,8", "listed twice"),
        ("a=1..inf", "finite"),
    ],
)
def test_tune_refuses_what_is_no_range(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_tune(text)
    assert caught.value.hint or "step" in words or "twice" in words


def test_a_space_file_has_words_or_nested_keys(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "training.lr: {log: [1e-4, 1e-2]}\n"
        "model.cell:\n  channels: {int: [8, 32, 8]}\n  update: {norm: {choice: [rms, none]}}\n"
    )
    space = read_space(file)
    assert [dim.key for dim in space] == [
        "training.lr", "model.cell.channels", "model.cell.update.norm",
    ]  # fmt: skip
    tuned = with_tuned(space, [parse_tune("training.lr=0.1..0.2")])
    assert [dim.kind for dim in tuned] == ["float", "int", "choice"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training.lr: {lgo: [1, 2]}", "did you mean 'log'"),
        ("training.lr: [1, 2]", "says not which values"),
        ("training.lr: {log: 3}", "needs a list"),
        ("training.lr: {choice: []}", "choice is empty"),
        ("training.lr: {log: [1, 2]}\ntraining: {lr: {log: [1, 3]}}", "given twice"),
        ("{}", "no settings to search"),
    ],
)
def test_a_wrong_space_file_is_named(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_space(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training.lrr=1e-4..1e-2", "did you mean 'lr'"),
        ("trainin.lr=1e-4..1e-2", "did you mean 'training'"),
        ("training.lr=0..1", "greater than 0"),
        ("model.cell.fire_rate=0.5..1.5", "model.cell.fire_rate"),
        ("training.optimiser=adamw,sgd", "training.optimiser"),
        ("training.iterations=10..20", "--budget"),
        ("data.split.seed=1..3", "split"),
        ("seed=1..3", "--seed"),
    ],
)
def test_what_the_settings_do_not_allow_is_found_before_any_work(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_space(load_settings("demo"), (parse_tune(text),), TASK)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "config", ["demo", "hippocampus_unet", "growing_emblem", "digits_classification", "nuclei"]
)
def test_the_default_space_fits_every_family(config: str) -> None:
    settings = load_settings(config)
    space = default_space(settings)
    check_space(settings, space, TASKS.get(settings.task))
    assert "training.lr" in [dim.key for dim in space]


@given(
    low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6),
    kind=st.sampled_from(["float", "int", "log"]),
)  # fmt: skip
def test_a_dimension_survives_its_file(low: float, width: float, kind: str) -> None:
    if kind == "int":
        low, width = float(round(low)), float(max(round(width), 1))
    if kind == "log":
        low = abs(low) + 1e-3
    made = dimension("a.b", {kind: [low, low + width]}, "test")
    assert dimension("a.b", made.to_plain(), "test") == made
    assert made.holds(made.low)
    assert made.holds(made.high)
    assert not made.holds(made.high + 1)


def test_a_choice_keeps_lists_and_tells_true_from_one() -> None:
    made = dimension("a", {"choice": [[1, 2], True, 1, "x"]}, "test")
    assert [made.decoded(value) for value in ("[1, 2]", True, 1, "x")] == [[1, 2], True, 1, "x"]
    assert made.holds([1, 2])
    assert not made.holds([2, 1])
    assert not made.holds(0)


def test_values_go_into_the_settings() -> None:
    values: dict[str, Any] = {"training.lr": 0.5, "model.levels.1.patch": 12}
    settings = with_values(load_settings("demo"), values, "test")
    assert settings.training.lr == 0.5
    assert settings.model.levels[1].patch == 12  # type: ignore[union-attr]
    assert settings.model.levels[0] == load_settings("demo").model.levels[0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "iterations", "minutes", "words"),
    [
        ("500", 500, None, "500 iterations"),
        ("20it", 20, None, "20 iterations"),
        ("90s", 10_000_000, 1.5, "90 seconds"),
        ("2min", 10_000_000, 2.0, "120 seconds"),
    ],
)
def test_a_budget_is_the_same_for_all(
    text: str, iterations: int, minutes: float | None, words: str
) -> None:
    budget = parse_budget(text)
    settings = budget.applied(load_settings("demo"))
    assert (settings.training.iterations, settings.training.max_minutes) == (iterations, minutes)
    assert settings.training.validate_every == 0.1
    assert str(budget) == words
    assert budget_of(load_settings("demo")) == "1500 iterations, at most 360 seconds"


@pytest.mark.parametrize("text", ["", "0", "1.5", "3h", "-2", "0s"])
def test_a_wrong_budget_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no number of iterations"):
        parse_budget(text)


def test_objectives_are_named_by_the_task() -> None:
    assert objectives_of((), TASK) == ("dice",)
    assert objectives_of(("Score", "latency_ms"), TASK) == ("dice", "latency_ms")
    assert objectives_of((), TASKS.get("classification")) == ("balanced_accuracy",)
    with pytest.raises(ConfigError, match="did you mean 'parameters'"):
        objectives_of(("paramters",), TASK)
    with pytest.raises(ConfigError, match="twice"):
        objectives_of(("dice", "score"), TASK)
