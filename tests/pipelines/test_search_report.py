"""The report of a search, from real studies of Optuna."""

from __future__ import annotations

import csv
import math
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial
from PIL import Image

from medseg_nca.pipelines import search_report
from medseg_nca.search.report_view import importances, view_of

RANGES: dict[str, BaseDistribution] = {
    "training.lr": FloatDistribution(1e-4, 1e-1, log=True),
    "model.levels": IntDistribution(1, 3),
    "training.loss": CategoricalDistribution([None, "dice", "a$b$<c>"]),
    "training.momentum": FloatDistribution(0.5, 0.99),
}
COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


def trial(
    values: list[float] | None, params: dict[str, Any], state: TrialState = COMPLETE,
    curve: dict[int, float] | None = None, **notes: Any,
) -> FrozenTrial:  # fmt: skip
    return create_trial(
        state=state, values=values, params=params, user_attrs=notes,
        distributions={name: RANGES[name] for name in params}, intermediate_values=curve or {},
    )  # fmt: skip


def study(trials: list[FrozenTrial], *objectives: str) -> optuna.Study:
    names = list(objectives or ("dice",))
    directions = ["maximize" if name == "dice" else "minimize" for name in names]
    made = optuna.create_study(study_name="hippocampus", directions=directions)
    facts = {"objectives": names, "config": "hippocampus_m3d", "budget": "500 iterations",
             "data_sha256": "d" * 64, "split_sha256": "5" * 64, "steps": "percent of the budget",
             "space": {"training.lr": {"low": 1e-4}}}  # fmt: skip
    for name, value in facts.items():
        made.set_user_attr(name, value)
    made.add_trials(trials)
    return made


def settings(
    lr: float = 1e-3, levels: int = 2, loss: Any = "dice", **more: float
) -> dict[str, Any]:
    given = {f"training.{name}": value for name, value in more.items()}
    return {"training.lr": lr, "model.levels": levels, "training.loss": loss, **given}


def write(made: optuna.Study, out: Path) -> str:
    path = search_report.run(made, out)
    assert path == out / "report.html"
    return path.read_text("utf-8")


def figures(out: Path) -> list[str]:
    found = sorted((out / "figures").iterdir())
    for path in found:
        with Image.open(path) as picture:
            picture.verify()
    return [path.stem for path in found]


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


MIXED = [
    trial([0.80], settings(1e-3), curve={50: 0.5, 100: 0.8}, parameters=17842, seconds=61.5),
    trial(None, settings(1e-1), PRUNED, {50: 0.1, 60: math.nan}),
    trial(None, settings(3e-2, loss=None), FAIL, error="Trial 2 <diverged> & stopped."),
    trial([0.85], settings(4e-3, 3, "a$b$<c>", momentum=0.9), curve={100: 0.85}),
    trial([math.inf], settings(2e-3)),
    trial(None, settings(1e-2), PRUNED),
    trial([0.70], settings(1e-4, 1, None), curve={50: 0.4, 100: 0.7}),
]


def test_a_search_with_every_kind_of_trial(tmp_path: Path) -> None:
    text = write(study(MIXED), tmp_path)
    assert figures(tmp_path) == ["curves", "history", "parallel", "slices"]
    table = rows(tmp_path)
    assert [row["state"] for row in table] == [
        "complete", "pruned", "failed", "complete", "failed", "pruned", "complete",
    ]  # fmt: skip
    assert table[3]["objective:dice"] == "0.85"
    assert [row["front"] for row in table] == ["0", "0", "0", "1", "0", "0", "0"]
    assert table[0]["setting:training.momentum"] == ""
    assert table[1]["last_step"] == "50"  # the one after it is no number
    best = text.split("<h2>The best trials</h2>")[1].split("</section>")[0]
    assert [part.split("<")[0] for part in best.split('<th scope="row">')[1:]] == ["3", "0", "6"]
    assert "17,842" in best
    assert "a$b$&lt;c&gt;" in best
    assert "Trial 2 &lt;diverged&gt; &amp; stopped." in text
    assert "without a score that is a finite number" in text  # the one whose score is infinite
    assert "needs 10 complete trials, and there are 3" in text
    for fact in ("d" * 64, "5" * 64, "500 iterations", "hippocampus_m3d"):
        assert fact in text


@pytest.mark.parametrize(
    ("trials", "drawn", "said"),
    [
        ([], [], "The search has no trial yet."),
        ([MIXED[1], MIXED[5]], ["curves", "history"], "No trial is complete (2 pruned)"),
        ([MIXED[2]], ["history"], "No trial is complete (1 failed)"),
        ([MIXED[0]], ["curves", "history", "parallel", "slices"], "1 of 1 complete trials"),
        ([trial([0.5], {})], ["history"], "1 trial over 0 settings for the highest Dice."),
    ],
    ids=["none", "all pruned", "all failed", "one", "nothing varied"],
)
def test_what_cannot_be_told_is_said(
    trials: list[FrozenTrial], drawn: list[str], said: str, tmp_path: Path
) -> None:
    assert said in write(study(trials), tmp_path)
    assert figures(tmp_path) == drawn
    assert len(rows(tmp_path)) == len(trials)


def test_several_objectives_have_a_front(tmp_path: Path) -> None:
    values = [[0.9, 20.0, 9e3], [0.8, 5.0, 2e4], [0.7, 30.0, 3e4], [0.6, 4.0, 1e2]]
    trials = [trial(v, {"training.lr": 10.0 ** -(n + 1)}) for n, v in enumerate(values)]
    text = write(study(trials, "dice", "latency_ms", "parameters"), tmp_path)
    assert figures(tmp_path) == ["front", "history", "parallel", "slices_1", "slices_2", "slices_3"]
    assert [row["front"] for row in rows(tmp_path)] == ["1", "1", "0", "1"]
    assert "the highest Dice and the lowest latency (ms) and the lowest parameters" in text
    assert "3 of 4 complete trials" in text


def test_a_minimised_score_is_best_where_it_is_least(tmp_path: Path) -> None:
    trials = [trial([v], {}) for v in (3.0, 1.0, 2.0)]
    text = write(study(trials, "rmse"), tmp_path)
    assert "<strong>1</strong><span>best trial</span>" in text
    assert [row["front"] for row in rows(tmp_path)] == ["0", "1", "0"]


def test_a_study_of_others_has_a_report_too(tmp_path: Path) -> None:
    made = optuna.create_study(directions=["minimize", "minimize"])
    made.add_trials([trial([1.0, 2.0], {}), trial([2.0, 1.0], {})])
    assert "the lowest objective 1 and the lowest objective 2" in write(made, tmp_path)


def test_writing_it_again_takes_the_place_of_the_last_one(tmp_path: Path) -> None:
    write(study([MIXED[1]]), tmp_path)
    write(study([MIXED[2]]), tmp_path)
    assert figures(tmp_path) == ["history"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "figures",
        "report.html",
        "trials.csv",
    ]


def graded(count: int, *, flat: bool = False) -> optuna.Study:
    """Trials whose score depends on the learning rate alone, over a grid without correlation."""
    trials = []
    for number in range(count):
        lr, levels = 10 ** (-1 - 3 * (number % 9) / 8), 1 + number % 7 % 3
        score = 0.5 if flat else 0.9 - 0.1 * (math.log10(lr) + 2.5) ** 2
        trials.append(trial([score], settings(lr, levels, ("dice", None)[number % 2])))
    trials[0] = trial([0.5], settings(1e-1, 1, "dice", momentum=0.9))
    return study(trials)


def test_importance_finds_the_setting_that_matters() -> None:
    made = graded(36)
    found = importances(made, view_of(made))
    assert not isinstance(found, str)
    (dice,) = found
    assert dice.trials == 36
    assert sum(dice.share.values()) == pytest.approx(1)
    assert max(dice.share, key=dice.share.__getitem__) == "training.lr"
    assert dice.share["training.lr"] > dice.chance["training.lr"]
    assert dice.left_out == ["training.momentum"]  # one trial has it


def test_importance_is_drawn_and_says_what_it_rests_on(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = write(graded(12), tmp_path)
    assert "importance" in figures(tmp_path)
    assert "from 12 complete trials" in text
    assert "left out: training.momentum" in text


def test_importance_of_equal_scores_is_not_made_up() -> None:
    made = graded(12, flat=True)
    assert "cannot be set apart" in str(importances(made, view_of(made)))


def test_ranges_that_changed_between_trials_share_an_axis() -> None:
    made = optuna.create_study(direction="maximize")
    for low, high, value in ((1, 4, 2), (3, 8, 7)):
        ranges = {"steps": IntDistribution(low, high)}
        made.add_trial(create_trial(value=0.5, params={"steps": value}, distributions=ranges))
    (steps,) = view_of(made).parameters
    assert (steps.low, steps.high, steps.integer) == (1, 8, True)
