"""The task by the commands: trained, measured, used, registered, compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from medseg_nca.cli.main import cli
from medseg_nca.tasks import TASKS
from tests.tasks.generation.growing import TINY, model_of

SETTINGS = [word for override in TINY for word in ("--set", override)]


def call(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished training, which has learned nothing in its second."""
    monkeypatch.chdir(tmp_path)
    call("train", "--config", "growing_emblem", "--out", "run", *SETTINGS, code=5)
    return tmp_path / "run"


def test_a_model_is_trained_measured_and_grown(run: Path) -> None:
    assert {path.name for path in (run / "figures").iterdir()} == {
        "curves.png", "emblem.png", "emblem.gif",
    }  # fmt: skip
    fast = ("--set", "times=[1,2]", "--set", "count=2")
    text = call("evaluate", "--model", run, *fast, "--tracking-uri", "sqlite:///store.db").output
    assert "after damage: half" in text
    grown = call("predict", "--model", run, "--out", "grown", "--set", "steps=4", "--seed", 3)
    assert "4 steps" in grown.output
    listed = json.loads((run.parent / "grown" / "predictions.json").read_text())
    assert listed["predictions"][0]["seed"] == 3
    described = call("models", "describe", run, "--size", "10,10").output
    assert "channel 3" in described


def test_two_evaluations_of_the_same_seeds_are_compared(run: Path) -> None:
    fast = ("--set", "times=[1]", "--set", "count=2")
    for out in ("a", "b"):
        call("evaluate", "--model", run, *fast, "--out", out)
    tree = json.loads(call("compare", "a", "b", "--json", "--out", "c").stdout)
    assert tree["metric"] == "psnr_1x"
    values = json.dumps(tree)
    assert "emblem" in values


@pytest.mark.slow
def test_a_model_is_registered_verified_promoted_and_loaded(run: Path) -> None:
    import mlflow

    uri = f"sqlite:///{run.parent / 'store.db'}"
    fast = ("--set", "times=[1]", "--set", "count=1")
    call("evaluate", "--model", run, *fast, "--tracking-uri", uri)
    call("models", "register", run, "--name", "emblem", "--force", "--tracking-uri", uri)
    call("models", "verify", "models:/emblem/1", "--tracking-uri", uri)
    call("models", "promote", "emblem", 1, "--alias", "champion", "--tracking-uri", uri)
    call(
        "predict", "--model", "models:/emblem@champion", "--out", "grown", "--tracking-uri", uri
    )  # fmt: skip
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        model = mlflow.pyfunc.load_model("models:/emblem@champion")
    finally:
        mlflow.set_tracking_uri(before)
    answer = model.predict({"steps": np.array([3, 5]), "seed": np.array([0, 1])})
    assert np.asarray(answer).shape == (2, 4, 10, 10)


def test_what_is_wrong_is_refused_with_exit_code_two(tmp_path: Path) -> None:
    for words, text in (
        (("--data", tmp_path), "learns from no data set"),
        (("--set", "options.targt=x.png"), "target"),
        (("--set", "options.target=missing.png"), "no such target"),
        (("--set", "options.grid=4"), "does not fit"),
    ):
        done = call("train", "--config", "growing_emblem", "--out", tmp_path / "run", *SETTINGS,
                    *words, code=2)  # fmt: skip
        assert text in done.output


@pytest.mark.parametrize(
    "words",
    [("--folds", 3), ("--fold", 1), ("--set", "data.split.folds=3"), ("--plan-only", "--folds", 2)],
)
def test_there_are_no_folds_of_what_has_no_cases(tmp_path: Path, words: tuple[object, ...]) -> None:
    done = call("train", "--config", "growing_emblem", "--out", tmp_path / "run", *SETTINGS, *words,
                code=2)  # fmt: skip
    assert "there are no folds" in done.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("spread", [("--workers", 2), ("--scheduler", "tcp://127.0.0.1:1")])
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_what_grows_in_one_process_refuses_several(
    tmp_path: Path, command: str, spread: tuple[object, ...]
) -> None:
    model_of(tmp_path)
    done = call(
        command, "--model", tmp_path / "model", "--out", tmp_path / "out", *spread, code=2
    )  # fmt: skip
    assert f"{spread[0]}: the task generation works in one process" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_an_interruption_promises_no_finished_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # Predicting takes milliseconds here, too short for a real Ctrl-C to come in time.
    model_of(tmp_path)
    for task in (TASKS.get("generation"), TASKS.get("segmentation")):
        monkeypatch.setattr(type(task), command, interrupt)
    out = ("--out", tmp_path / "out")
    done = CliRunner().invoke(cli, [str(w) for w in (command, "--model", tmp_path / "model", *out)])
    assert "the results are not complete" in done.output
    assert "kept" not in done.output
    done = CliRunner().invoke(cli, [str(w) for w in (command, "--model", "zoo:nuclei", *out)])
    assert "the finished cases are kept" in done.output
