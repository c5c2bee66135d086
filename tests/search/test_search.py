"""A search as a user calls it: on small data, with trials of a few iterations."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from medseg_nca.cli.main import cli
from medseg_nca.config.data import SplitSettings
from medseg_nca.config.loading import load_settings
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.datasets.find import open_dataset
from medseg_nca.datasets.splits import make_split
from medseg_nca.errors import Interrupted, PartialFailure
from medseg_nca.job import Job, Progress
from medseg_nca.pipelines import preprocess
from medseg_nca.pipelines.search import SearchRequest
from medseg_nca.pipelines.search import run as run_search
from medseg_nca.search.budget import parse_budget
from medseg_nca.search.space import parse_tune

SMALL = {
    "model.levels": "[{scale: 2, steps: 2}]",
    "preprocess.crop_size": "[16, 16]",
    "training.batch_size": "1",
    "training.optimiser": "adamw",
    "training.workers": "0",
    "augment.enabled": "false",
}
SETS = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
TUNE = ("--tune", "training.lr=log:1e-3..1e-2", "--tune", "model.cell.update.hidden=8,16")


def call(*args: object) -> Result:
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight cases of pictures; those of the test part have no files."""
    data = write_phantom(tmp_path_factory.mktemp("data") / "phantom", 8, dims=2, size=(24, 24))
    dataset = open_dataset(data)
    split = make_split(dataset, SplitSettings())
    assert split.test
    for case in dataset.cases:
        if case.id in split.test:
            for path in (*case.images, case.label):
                assert path is not None
                path.unlink()
    return data


def search(data: Path, out: Path, *more: object, tune: tuple[str, ...] = TUNE) -> Result:
    words = ("--data", data, "--out", out, "--budget", "4", "--no-tracking", *SETS, *tune, *more)
    return call("search", *words)


def states(out: Path) -> list[str]:
    shown = json.loads(call("search", "status", "--out", out, "--json").stdout)
    return [trial["state"] for trial in shown["trials"]]


@pytest.fixture(scope="module")
def done(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search of three trials."""
    out = tmp_path_factory.mktemp("searches") / "first"
    result = search(phantom, out, "--trials", "3", "--seed", "1")
    assert result.exit_code == 0, result.output
    assert "Trial 0: dice" in result.stderr
    assert "the 2 cases of the test part are not read" in result.stderr
    assert f"train --config {out / 'best.yaml'}" in result.stdout
    return out


def test_the_test_part_is_never_read(done: Path, phantom: Path) -> None:
    split = json.loads((done / "split.json").read_text())
    index = json.loads((done / "prepared" / "prepared.json").read_text())
    assert [case["id"] for case in index["cases"]] == sorted(split["train"] + split["val"])
    assert index["failed"] == []
    for run in (done / "trials" / "search").iterdir():
        sides = json.loads((run / "split.json").read_text())
        assert (sides["train"], sides["val"]) == (split["train"], split["val"])
        assert sides["test"] == []
    # Whoever reads the files of the test part notices that they are gone.
    settings = load_settings(None, [f"{key}={value}" for key, value in SMALL.items()])
    request = preprocess.PreprocessRequest(phantom, done.parent / "all", settings)
    with pytest.raises(PartialFailure) as caught:
        preprocess.run(request)
    assert sorted(caught.value.failures) == split["test"]


def test_the_first_trial_is_the_preset_itself_and_all_have_one_budget(done: Path) -> None:
    shown = json.loads(call("search", "status", "--out", done, "--json").stdout)
    assert shown["budget"] == "4 iterations"
    assert set(shown["space"]) == {"training.lr", "model.cell.update.hidden"}
    for trial in shown["trials"]:
        assert 1e-3 <= trial["params"]["training.lr"] <= 1e-2
        assert trial["params"]["model.cell.update.hidden"] in (8, 16)
        if trial["state"] == "complete":
            ended = json.loads((Path(trial["run"]) / "training.json").read_text())
            assert ended["iterations"] == 4
    assert len({trial["params"]["training.lr"] for trial in shown["trials"]}) == 3


def test_the_best_settings_are_a_preset_that_trains(
    done: Path, phantom: Path, tmp_path: Path
) -> None:
    (best,) = json.loads(call("search", "best", "--out", done, "--json").stdout)
    preset = tmp_path / "mine.yaml"
    exported = call("search", "export", "--search", done, "--out", preset)
    assert exported.exit_code == 0, exported.output
    assert f"trial {best['trial']}" in exported.stdout
    assert preset.read_text() == (done / "best.yaml").read_text()
    tree = yaml.safe_load(preset.read_text())
    assert tree["training"]["lr"] == best["params"]["training.lr"]
    assert tree["training"]["iterations"] == "auto"
    settings = load_settings(str(preset))
    assert settings.data.split == SplitSettings()
    run = tmp_path / "run"
    trained = call("train", "--config", preset, "--data", phantom, "--out", run, "--no-tracking",
                   "--set", "training.iterations=2")  # fmt: skip
    assert trained.exit_code in (0, 5), trained.output
    assert (run / "model" / "model.json").is_file()
    assert json.loads((run / "split.json").read_text())["train"]


def test_a_trial_that_ended_is_not_repeated_and_more_can_be_added(
    done: Path, phantom: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.glob("trials/*/*/training.json")}
    assert len(before) >= 1
    more = search(phantom, done, "--trials", "4", "--seed", "1", "--json")
    assert more.exit_code == 0, more.output
    assert "3 of 4 trials have ended" in more.stderr
    after = {path: path.stat().st_mtime_ns for path in done.glob("trials/*/*/training.json")}
    assert {path: after[path] for path in before} == before
    tree = json.loads(more.stdout)
    assert sum(tree["state"].values()) == 4
    assert Path(tree["report"]).is_file()
    assert len(states(done)) == 4


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--tune", "training.lr=log:1e-3..2e-2"), "another space: training.lr.log"),
        (("--set", "data.split.seed=5"), "another split"),
        (("--objective", "dice,parameters"), "other objectives"),
        (("--set", "training.clip=2"), "other settings: training.clip"),
        (("--folds", "2"), "split"),
    ],
)
def test_another_search_in_the_same_folder_is_refused(
    more: tuple[str, ...], words: str, done: Path, phantom: Path
) -> None:
    before = states(done)
    result = search(phantom, done, "--trials", "3", "--seed", "1", *more)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert states(done) == before


def test_another_data_set_of_the_same_names_is_refused(done: Path, tmp_path: Path) -> None:
    other = write_phantom(tmp_path / "other", 8, seed=9, dims=2, size=(24, 24))
    before = (done / "prepared" / "prepared.json").read_bytes()
    result = search(other, done, "--trials", "3", "--seed", "1")
    assert result.exit_code == 2, result.output
    assert "another data set" in result.stderr
    assert (done / "prepared" / "prepared.json").read_bytes() == before


def test_an_unknown_key_is_refused_before_any_work(phantom: Path, tmp_path: Path) -> None:
    result = search(phantom, tmp_path / "out", tune=("--tune", "training.lrr=1..2"))
    assert result.exit_code == 2
    assert "did you mean 'lr'" in result.stderr
    assert not (tmp_path / "out").exists()


def request(phantom: Path, out: Path, **changes: Any) -> SearchRequest:
    settings = load_settings(
        None, [*(f"{key}={value}" for key, value in SMALL.items()), "tracking.enabled=false"]
    )
    values = {"budget": parse_budget("3"), "trials": 2, **changes}
    space = (parse_tune("training.lr=log:1e-3..1e-2"),)
    return SearchRequest("test", settings, phantom, out, space, **values)


def stop_at(phase: str) -> Job:
    """A job that is cancelled as soon as a trial has ended."""

    def listen(progress: Progress) -> None:
        if progress.phase == phase and progress.done:
            job.cancel("Enough.")

    job = Job(listen)
    return job


def test_what_was_interrupted_goes_on_with_the_same_values(phantom: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="1 of 2 trials have ended") as caught:
        run_search(request(phantom, tmp_path), stop_at("trials"))
    assert "same command" in str(caught.value.hint)
    assert states(tmp_path) == ["complete", "waiting"]
    result = run_search(request(phantom, tmp_path))
    assert result.state.complete + result.state.pruned == 2


def test_several_objectives_have_a_front_and_folds_their_mean(
    phantom: Path, tmp_path: Path
) -> None:
    wanted = request(
        phantom, tmp_path, objectives=("dice", "latency_ms", "parameters"), folds=2, trials=1
    )
    result = run_search(wanted)
    assert set(result.best["values"]) == {"dice", "latency_ms", "parameters"}
    assert result.best["values"]["latency_ms"] > 0
    assert result.best["values"]["parameters"] == result.best["parameters"]
    folder = tmp_path / "trials" / "search" / "0000"
    scores = [
        json.loads((folder / f"fold_{fold}" / "training.json").read_text()) for fold in range(2)
    ]
    mean = sum(score["best_score"] for score in scores) / 2
    assert result.best["values"]["dice"] == pytest.approx(mean)


def test_a_search_whose_trials_all_diverge_fails_and_keeps_them(
    phantom: Path, tmp_path: Path
) -> None:
    more = ("--trials", 2, "--set", "training.guard.max_rollbacks=0", "--set", "training.clip=null")
    result = search(phantom, tmp_path, *more, tune=("--tune", "training.lr=log:1e12..1e14"))
    assert result.exit_code == 2, result.output
    assert "None of 2 trials has a result" in result.stderr
    assert "diverged" in result.stderr
    assert states(tmp_path) == ["failed", "failed"]
    assert (
        call("search", "export", "--search", tmp_path, "--out", tmp_path / "x.yaml").exit_code == 2
    )


@pytest.mark.parametrize("name", ["status", "best"])
def test_a_search_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    result = call("search", name, "--out", tmp_path)
    assert result.exit_code == 2
    assert str(tmp_path / "search.db") in result.stderr
    assert call("search", name).exit_code == 2


def test_a_storage_that_is_named_is_looked_at(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = done / "search.db"
    words = ("search", "status", "--json", "--out")
    assert call(*words, tmp_path, "--storage", file).exit_code == 0
    assert call(*words, done, "--storage", tmp_path / "none.db").exit_code == 2
    monkeypatch.setenv("MEDSEG_SEARCH_STORAGE", str(tmp_path / "none.db"))
    assert call(*words, done).exit_code == 0
    monkeypatch.setenv("MEDSEG_SEARCH_STORAGE", str(file))
    assert call(*words, tmp_path).exit_code == 0


@pytest.mark.parametrize("name", ["status", "best", "export"])
def test_without_optuna_its_package_is_named(
    name: str, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "optuna"]:
        monkeypatch.delitem(sys.modules, module)
    for module in ("results", "storage", "study", "queue"):
        monkeypatch.delitem(sys.modules, f"medseg_nca.search.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)
    at = ("--search", done, *(("--out", done / "x.yaml") if name == "export" else ()))
    result = call("search", name, *at)
    assert result.exit_code == 2, result.output
    assert "medseg-nca[search]" in result.stderr


def test_the_same_command_has_the_same_folder_without_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "searches" / "demo").mkdir(parents=True)
    result = call("search", "--config", "demo", "--data", tmp_path, "--tune", "training.lrr=1..2")
    assert result.exit_code == 2
    assert f"the folder of the search is {Path('searches', 'demo')}." in result.stderr


def test_every_objective_that_is_named_is_taken(phantom: Path, tmp_path: Path) -> None:
    result = search(phantom, tmp_path / "o", "--objective", "parametters", "--objective", "dice")
    assert result.exit_code == 2
    assert "did you mean 'parameters'" in result.stderr
