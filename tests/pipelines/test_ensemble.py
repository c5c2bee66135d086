"""Folds become one model, which every command takes, and which is tested on what no fold saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.config import RunSettings
from medseg_nca.config.loading import load_settings
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.datasets.splits import read_split
from medseg_nca.errors import DataError, ModelError, OutputError
from medseg_nca.inference.bundle import load_bundle
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.read import read_volume
from medseg_nca.pipelines import ensemble, preprocess, train
from medseg_nca.tasks.segmentation import evaluation
from medseg_nca.tasks.segmentation.reference import synthetic_volume
from medseg_nca.tracking.package import write_package
from tests.tracking.tiny import make_run, new_store, save_tiny

TINY = [
    "training.iterations=2", "training.max_minutes=null", "training.validate_every=2",
    "training.warmup=0", "preprocess.crop_size=[16,16]", "tracking.enabled=false",
    "training.batch_size=2", "evaluation.bootstrap=20", "data.split.test=0.25",
    "model.levels=[{scale: 2, steps: [2, 3]}, {scale: 1, steps: 2, patch: 8}]",
]  # fmt: skip


def tiny_settings() -> RunSettings:
    return load_settings("demo", TINY)


def command(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, list(map(str, words)))
    return result.exit_code, result.stdout, result.stderr


def as_json(*words: object) -> Any:
    code, out, err = command(*words, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = write_phantom(
        tmp_path_factory.mktemp("phantom") / "data", cases=8, seed=1, dims=2, size=(24, 20)
    )
    out = tmp_path_factory.mktemp("prepared") / "store"
    preprocess.run(preprocess.PreprocessRequest(raw, out, tiny_settings(), workers=0))
    return out


@pytest.fixture(scope="module")
def folds(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cv") / "cv"
    train.run_folds(data, out, tiny_settings(), 3)
    return out


def test_folds_are_joined(folds: Path) -> None:
    out = folds / "ensemble"
    loaded = load_bundle(out / "model", "cpu")
    assert len(loaded.members) == 3
    assert [m.name for m in loaded.spec.members] == [f"demo_fold{n}" for n in range(3)]
    assert loaded.spec.name == "demo"
    split = read_split(out / "split.json")
    each = [read_split(folds / f"fold_{n}" / "split.json") for n in range(3)]
    assert split.test == each[0].test == each[1].test == each[2].test
    assert len(split.test) == 2
    assert split.val == ()
    assert sorted((*split.train, *split.test)) == sorted(each[0].side("all"))
    tree = json.loads((out / "training.json").read_text())
    assert tree["parameters"] == loaded.parameters
    assert tree["members"] == [str(folds / f"fold_{n}") for n in range(3)]


def test_islands_are_decided_on_from_the_cases_of_all_folds(
    folds: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two cases a fold prove nothing; what they say together is said of six."""
    caplog.set_level("INFO", "medseg_nca")
    runs = [folds / f"fold_{n}" for n in range(3)]
    assert {load_bundle(run / "model", "cpu").spec.prediction.largest for run in runs} == {()}
    ensemble.run(runs, tmp_path / "out")
    reasons = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Of ")]
    assert reasons
    assert not any("prove nothing" in reason for reason in reasons)
    evidence = {"voxels": 9, "dice": [0.5, 0.6], "hd95": None, "apart": 0.0}
    for run in runs:
        file = run / "islands.json"
        tree = json.loads(file.read_text())
        assert all(len(entry["cases"]) == 2 for entry in tree["found"])
        for entry in tree["found"]:
            entry["cases"] = [{**evidence, "case": case["case"]} for case in entry["cases"]]
        file.write_text(json.dumps(tree))
    ensemble.run(runs, tmp_path / "changed")
    names = load_bundle(runs[0] / "model", "cpu").spec.labels.names
    decided = load_bundle(tmp_path / "changed" / "model", "cpu").spec.prediction.largest
    assert set(decided) >= set(names)
    (runs[1] / "islands.json").write_text("[1")
    ensemble.run(runs, tmp_path / "unknown")
    assert load_bundle(tmp_path / "unknown" / "model", "cpu").spec.prediction.largest == ()


def test_it_is_evaluated_on_what_no_fold_has_seen(data: Path, folds: Path, tmp_path: Path) -> None:
    loaded = load_bundle(folds / "ensemble" / "model", "cpu")
    found = evaluation.run(evaluation.EvaluateSegmentation(loaded, data, tmp_path / "test"))
    test = read_split(folds / "ensemble" / "split.json").test
    assert tuple(case["id"] for case in found.tree["cases"]) == test
    assert found.tree["model"]["members"] == 3
    with pytest.raises(DataError, match="split has no val case"):
        evaluation.run(evaluation.EvaluateSegmentation(loaded, data, tmp_path / "val", split="val"))
    everything = evaluation.run(
        evaluation.EvaluateSegmentation(loaded, data, tmp_path / "all", split="all")
    )
    assert "8 of these cases are in the run's split" in " ".join(everything.tree["notes"])


def test_the_commands_take_it(data: Path, folds: Path, tmp_path: Path) -> None:
    """From its members to a registered version that MLflow loads."""
    out, store = tmp_path / "joined", ("--tracking-uri", new_store(tmp_path / "store").uri)
    runs = [folds / f"fold_{n}" for n in range(2)]
    told = as_json("models", "ensemble", *runs, "--out", out, "--name", "pair")
    assert told["members"] == [str(run) for run in runs]
    code, _, err = command("models", "ensemble", *runs, "--out", out)
    assert code == 2
    assert "already holds a model" in err
    one = as_json("models", "describe", runs[0], "--size", "32,32")
    two = as_json("models", "describe", out, "--size", "32,32")
    assert two["members"] == 2
    assert two["parameters"] == 2 * one["parameters"]
    assert two["inference_mb"] == one["inference_mb"]
    image = image_of(data)
    results = as_json("predict", "--model", out, "--out", tmp_path / "p", "--uncertainty", 2, image)
    assert Path(results[0]["outputs"]["uncertainty"]).exists()
    code, _, err = command("evaluate", "--model", out, "--data", data)
    assert code == 0, err
    assert (out / "evaluation" / "metrics.json").exists()
    code, _, err = command("models", "register", out, "--name", "pair", "--force", *store)
    assert code == 0, err
    shown = as_json("models", "show", "pair", *store)
    assert shown["tags"]["members"] == "2"
    assert shown["tags"]["evaluated"] == "yes"
    checks = as_json("models", "verify", "models:/pair/1", *store)["checks"]
    assert {c["name"]: c["passed"] for c in checks} == dict.fromkeys(
        ("sha256", "loads", "prediction"), True
    )
    assert "2 members" in checks[1]["detail"]
    exported = tmp_path / "exported"
    as_json("models", "export", "models:/pair/1", "--to", exported, *store)
    assert len(load_bundle(exported, "cpu").members) == 2
    again = as_json("predict", "--model", "models:/pair/1", *store, "--out", tmp_path / "q", image)
    same = [read_volume(Path(r[0]["outputs"]["label_map"])).array for r in (results, again)]
    assert same[0].shape == same[1].shape


def image_of(data: Path) -> Path:
    tree = json.loads((data / "prepared.json").read_text())
    return Path(tree["cases"][0]["images"][0])


def test_mlflow_loads_it(folds: Path, tmp_path: Path) -> None:
    from mlflow import pyfunc

    loaded = load_bundle(folds / "ensemble" / "model", "cpu")
    write_package(loaded, tmp_path)
    model = pyfunc.load_model(str(tmp_path / "model"))
    volume = synthetic_volume(loaded.spec.plan)
    found = model.predict(volume.array[None])
    expected = Predictor(loaded).predict(volume).label_map.array
    np.testing.assert_array_equal(found, expected)


def test_workers_load_all_members(data: Path, folds: Path, tmp_path: Path) -> None:
    loaded = load_bundle(folds / "ensemble" / "model", "cpu")
    here = evaluation.run(evaluation.EvaluateSegmentation(loaded, data, tmp_path / "one"))
    there = evaluation.run(
        evaluation.EvaluateSegmentation(loaded, data, tmp_path / "two", workers=2)
    )
    assert here.tree["mean_dice"] == there.tree["mean_dice"]


def test_members_without_a_split_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2):
        save_tiny(tmp_path / str(number), seed=number)
    result = ensemble.run([tmp_path / "0", tmp_path / "1"], tmp_path / "out")
    assert "came without a split: nobody can tell" in caplog.text
    assert (result.learned, result.held_out) == (None, None)
    assert not (tmp_path / "out" / "split.json").exists()
    with pytest.raises(ModelError, match="is named twice"):
        ensemble.run([tmp_path / "0", tmp_path / "0"], tmp_path / "other")


def test_a_run_is_not_overwritten(folds: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="already holds a model"):
        ensemble.run([folds / "fold_1", folds / "fold_2"], folds / "fold_0")
    spec = make_run(tmp_path / "run")
    with pytest.raises(ModelError, match=r"does not fit the other members: its labels"):
        ensemble.run([folds / "fold_1", tmp_path / "run"], tmp_path / "out")
    assert spec.members == ()
