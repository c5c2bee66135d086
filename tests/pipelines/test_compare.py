"""Two evaluations, case by case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.errors import ConfigError, DataError
from medseg_nca.pipelines import compare

Scores = Mapping[str, Sequence[float | None]]


def evaluation(folder: Path, scores: Scores, *, name: str = "m", hash: str = "h") -> Path:
    """An evaluation with Dice of two labels; distances are ten times what is missing to 1."""

    def values(dice: float | None) -> dict[str, float | None]:
        other = None if dice is None else 10 * (1 - dice)
        signed = None if dice is None else dice - 0.5
        return {"dice": dice, "hd95": other, "nsd": dice, "volume_difference": signed}

    cases = [
        {"id": case, "labels": {"a": values(a), "b": values(b)}, "merged": values(a)}
        for case, (a, b) in scores.items()
    ]
    tree = {
        "model": {"name": name}, "data": {"hash": hash}, "mean_dice": 0.5, "tolerance_mm": 1.0,
        "labels": {"a": {}, "b": {}}, "cases": cases,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(tree))
    return folder


def test_differences_by_hand(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", {"1": (0.5, 0.6), "2": (0.7, None), "3": (0.9, 0.8)})
    b = evaluation(tmp_path / "b", {"1": (0.6, 0.7), "2": (0.9, 0.3), "3": (0.9, 0.9)})
    tree = compare.run(a, b)
    first, second, mean = (tree["labels"][name] for name in ("a", "b", "mean"))
    assert (first["n"], second["n"], mean["n"]) == (3, 2, 3)
    assert first["difference"] == pytest.approx(0.1)
    assert first["median_difference"] == pytest.approx(0.1)
    assert first["mean_a"] == pytest.approx(0.7)
    assert second["difference"] == pytest.approx(0.1)
    # Case 2 has b in one of the two only: its mean is that of a alone.
    assert mean["difference"] == pytest.approx((0.1 + 0.2 + 0.05) / 3, abs=1e-6)


def test_wilcoxon_by_hand() -> None:
    """Five differences of one sign: p = 2 / 2^5; one of six against, the smallest: 4 / 2^6."""
    assert compare.signed_rank_p(np.array([0.1, 0.2, 0.3, 0.4, 0.5])) == pytest.approx(2 / 32)
    six = np.array([-0.05, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert compare.signed_rank_p(six) == pytest.approx(4 / 64)
    assert compare.signed_rank_p(np.zeros(4)) == 1.0
    assert compare.signed_rank_p(np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])) == pytest.approx(2 / 32)


@pytest.mark.parametrize(("metric", "winner"), [("dice", "b"), ("hd95", "b"), ("nsd", "b")])
def test_the_better_one(tmp_path: Path, metric: str, winner: str) -> None:
    rng = np.random.default_rng(0)
    scores = {str(n): (0.5 + 0.1 * rng.random(), 0.6) for n in range(12)}
    a = evaluation(tmp_path / "a", scores)
    b = evaluation(
        tmp_path / "b", {n: (x + rng.uniform(0.1, 0.2), y) for n, (x, y) in scores.items()}
    )
    labels = compare.run(a, b, metric=metric)["labels"]
    assert labels["a"]["better"] == winner
    assert labels["a"]["p"] < 0.01
    assert labels["b"]["better"] is None
    assert labels["b"]["p"] == 1.0
    assert compare.run(b, a, metric=metric)["labels"]["a"]["better"] == "a"


def test_signed_differences_are_compared_by_size(tmp_path: Path) -> None:
    """-0.3 is worse than 0.1."""
    a = evaluation(tmp_path / "a", {str(n): (0.2, 0.5) for n in range(8)})
    b = evaluation(tmp_path / "b", {str(n): (0.6, 0.5) for n in range(8)})
    tree = compare.run(a, b, metric="volume_difference")
    assert tree["labels"]["a"]["difference"] == pytest.approx(-0.2)
    assert (tree["better"], tree["labels"]["a"]["better"]) == ("lower", "b")


def test_four_cases_are_too_few_for_a_verdict(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", {str(n): (0.1 + n / 100, 0.5) for n in range(4)})
    b = evaluation(tmp_path / "b", {str(n): (0.9, 0.5) for n in range(4)})
    row = compare.run(a, b)["labels"]["a"]
    assert row["ci95"][0] > 0.7
    assert row["p"] == pytest.approx(2 / 16)
    assert row["better"] is None


def test_only_shared_cases_count_and_the_reader_is_told(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", {"1": (0.5, 0.5), "2": (0.5, 0.5), "x": (0, 0)})
    b = evaluation(tmp_path / "b", {"2": (0.5, 0.5), "1": (0.5, 0.5), "y": (1, 1)}, hash="g")
    tree = compare.run(a, b)
    assert tree["cases"] == 2
    assert tree["labels"]["mean"]["difference"] == 0
    assert len(tree["notes"]) == 3
    assert any("different data sets" in note for note in tree["notes"])


def test_runs_folders_and_files_are_found(tmp_path: Path) -> None:
    run = tmp_path / "run"
    evaluation(run / "evaluation", {"1": (0.5, 0.5)})
    for path in (run, run / "evaluation", run / "evaluation" / "metrics.json"):
        assert compare.run(path, run)["cases"] == 1


def test_bad_input(tmp_path: Path) -> None:
    good = evaluation(tmp_path / "good", {"1": (0.5, 0.5)})
    other = evaluation(tmp_path / "other", {"2": (0.5, 0.5)})
    with pytest.raises(DataError, match="no case in common"):
        compare.run(good, other)
    with pytest.raises(DataError, match="medseg-nca evaluate"):
        compare.run(good, tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'dice'"):
        compare.run(good, good, metric="dise")
    for text in ("{", "[]", '{"cases": [{"id": 3}]}', '{"cases": [{"id": "1"}]}'):
        (other / "metrics.json").write_text(text)
        with pytest.raises(DataError, match=r"metrics\.json: is not the result"):
            compare.run(good, other)


def test_command(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", {"1": (0.5, 0.6), "2": (0.7, None)}, name="[red]evil")
    b = evaluation(tmp_path / "b", {"1": (0.6, 0.7), "2": (0.9, 0.3)})
    done = CliRunner().invoke(cli, ["compare", str(a), str(b), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "+0.150" in done.stdout
    assert "[red]evil" in done.stdout
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "comparison.json", "differences.png",
    }  # fmt: skip
    tree: dict[str, Any] = json.loads(
        CliRunner().invoke(cli, ["-q", "compare", str(a), str(b), "--json"]).stdout
    )
    assert tree["labels"]["a"]["difference"] == pytest.approx(0.15)
    assert CliRunner().invoke(cli, ["compare", str(a), str(tmp_path)]).exit_code == 2


CASE = {"id": "a/0", "target": "a", "seed": 0, "steps": 1, "persistence": 1.0, "damage": {}}


@pytest.mark.parametrize(
    "tree",
    [
        {"task": "generation", "cases": [CASE]},  # no times
        {"task": "generation", "cases": [CASE], "times": []},
        {"task": "generation", "cases": [CASE], "times": ["1x"]},  # a case without numbers
        {"task": "generation", "cases": [{**CASE, "loss": None, "psnr": 1}], "times": ["1x"]},
        {"task": "regression", "cases": [{"id": "a"}], "targets": {"depth": {}}},
        {"task": "regression", "cases": [{"id": "a", "targets": []}], "targets": 3},
        {"task": "classification", "cases": [{"id": "a"}], "classes": {"x": {"n": 1}}},
        {"task": "classification", "cases": [{"id": "a"}], "classes": ["x"]},
        {"task": "segmentation", "cases": [{"id": "a"}], "labels": [{}]},
        {"task": "segmentation", "cases": [{"id": "a"}], "labels": {"x": {}}, "model": "m"},
    ],
)
def test_a_damaged_result_of_any_task_is_named(tmp_path: Path, tree: dict[str, Any]) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"metrics\.json: is not the result"):
        compare.run(path, path)
