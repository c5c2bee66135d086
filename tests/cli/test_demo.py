"""``medseg-nca demo``: every stage for a moment, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.pipelines import demo

# The machinery, not the accuracy: so few steps on coarse images that a model has just learned.
QUICK = (
    "preprocess.spacing=[2.5,2.5,4]",
    "model.engine=reference",
    "training.lr=6e-3",
    "training.warmup=10",
    "evaluation.bootstrap=10",
    "tracking.system_metrics=false",
)


def run(out: Path, *args: str, iterations: int = 80) -> tuple[int, str, str]:
    settings = (*QUICK, f"training.iterations={iterations}")
    options = [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(cli, ["demo", "--out", str(out), "--cases", "6", *options, *args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.slow
def test_the_demo_goes_from_nothing_to_a_registered_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the demo promises to its users takes minutes; so few steps reach less.
    monkeypatch.setattr(demo, "REQUIRED_DICE", 0.1)
    out = tmp_path / "demo"
    code, text, err = run(out, "--json")
    assert code == 0, err
    tree = json.loads(text)
    assert tree["cases"] >= 1
    assert tree["model"] == "models:/phantom-demo/1"
    assert {"dice", "hd95"} <= set(tree["labels"]["merged"])
    assert Path(tree["predicted"]).is_file()
    assert "<html" in Path(tree["report"]).read_text("utf-8")
    assert (out / "mlflow.db").is_file()
    for stage in ("phantom", "preprocess", "train", "evaluate", "register", "predict"):
        assert stage in err
        assert tree["seconds"][stage] >= 0

    code, text, err = run(out)  # a second demo replaces the first
    assert code == 0, err
    assert "HD95 (mm)" in text
    assert "models:/phantom-demo/2" in text
    assert "report.html" in text


@pytest.mark.slow
def test_a_demo_whose_model_is_useless_fails(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    code, text, err = run(out, iterations=1)
    assert code == 5
    assert "Mean Dice" in text
    assert "models:/" not in text
    assert "The demo's model is useless. Its mean Dice on the held-out cases is" in err
    assert "0.5 is required" in err
    assert "--minutes" in err
    assert "register" not in err
    assert json.loads((out / "demo.json").read_text())["problems"]
    assert not (out / "predictions").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    code, out, err = run(tmp_path)
    assert (code, out) == (2, "")
    assert "holds something that is not of the demo" in " ".join(err.split())
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file")[0] == 2
