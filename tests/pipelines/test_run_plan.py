"""A run without a preset: planned from the data, stored, printed, timed, repeated by a resume."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from medseg_nca.config import RunSettings
from medseg_nca.config.auto import LEFT_TO_PLAN, LEFT_TO_RECIPE, value_at
from medseg_nca.config.loading import load_settings, read_settings
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.datasets.prepared import PreparedStore
from medseg_nca.datasets.splits import read_split
from medseg_nca.inference.bundle import load_bundle
from medseg_nca.pipelines import train
from medseg_nca.pipelines.run_plan import RunPlan, read_run_plan, write_settings
from medseg_nca.pipelines.run_time import time_table
from medseg_nca.recipe import numbers
from medseg_nca.tasks.segmentation.learner import SegmentationLearner
from medseg_nca.tracking.store import connect
from medseg_nca.training.timing import IterationTime, time_iterations
from tests.cli.runner import run as call
from tests.tracking.tiny import new_store

QUICK = ("training.iterations=3", "tracking.enabled=false", "training.workers=0")


def quick(*more: str) -> RunSettings:
    return load_settings(None, [*QUICK, *more])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    return write_phantom(folder, cases=6, seed=1, dims=2, size=(24, 20))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    train.run(data, out, quick())
    return out


def test_nothing_is_left_open_in_the_run_folder(run: Path) -> None:
    settings = read_settings(run / "settings.yaml")
    assert settings.undecided == ()
    tree = settings.model_dump(mode="json")
    rows = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    assert [row["key"] for row in rows] == [*LEFT_TO_PLAN, *LEFT_TO_RECIPE]
    assert all(row["value"] == value_at(tree, row["key"]) != "auto" for row in rows)
    reasons = {row["key"]: row["reason"] for row in rows}
    assert reasons["training.workers"] == "set by you or a preset"
    assert "training cases" in reasons["augment.flip_axes"]
    model = load_bundle(run / "model", "cpu").spec.model
    assert model.family == "nca"
    assert [level.model_dump(mode="json") for level in model.resolved_levels] == tree["model"][
        "levels"
    ]


def test_the_stored_settings_are_a_preset_that_decides_the_same(run: Path, data: Path) -> None:
    again = load_settings(str(run / "settings.yaml"))
    assert again.undecided == ()
    assert again == read_settings(run / "settings.yaml")


def test_a_resumed_run_keeps_its_plan(
    run: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    train.run(data, straight, quick("training.iterations=6", "training.validate_every=3"))
    train.run(data, stopped, quick("training.validate_every=3"))
    plan = (stopped / "prepared" / "plan.json").read_bytes()
    before = read_settings(stopped / "settings.yaml")
    caplog.clear()
    shown: list[RunPlan] = []
    longer = quick("training.iterations=6")
    train.run(data, stopped, longer, resume=True, show=shown.append)
    assert "is ignored" not in caplog.text
    assert (stopped / "prepared" / "plan.json").read_bytes() == plan
    (told,) = shown
    assert told.settings.training.iterations == 6
    assert told.settings.with_values({"training.iterations": 3}) == before
    assert (read_split(stopped / "split.json")) == read_split(straight / "split.json")
    caplog.clear()
    train.run(data, stopped, quick("training.lr=1"), resume=True)
    assert "what was given for training is ignored" in caplog.text


def test_a_resumed_run_takes_the_iterations_that_suit_its_new_time(
    run: Path, data: Path, tmp_path: Path
) -> None:
    settings = load_settings(None, ["tracking.enabled=false", "training.max_minutes=0.02"])
    train.run(data, tmp_path / "run", settings)
    stored = read_settings(tmp_path / "run" / "settings.yaml").training
    assert (stored.iterations, stored.max_minutes) == (100_000, 0.02)
    shown: list[RunPlan] = []
    longer = load_settings(None, ["tracking.enabled=false", "training.max_minutes=0.03"])
    train.run(data, tmp_path / "run", longer, resume=True, show=shown.append)
    assert shown[0].settings.training.max_minutes == 0.03
    assert shown[0].settings.training.validate_every == stored.validate_every


def test_a_run_that_was_stopped_before_its_plan_makes_one(data: Path, tmp_path: Path) -> None:
    """What is said when it goes on counts for what was still open."""
    asked = load_settings(None, ["tracking.enabled=false", "training.lr=1e-3"])
    write_settings(tmp_path / "run", asked)
    train.run(data, tmp_path / "run", quick(), resume=True)
    settings = read_settings(tmp_path / "run" / "settings.yaml")
    assert settings.undecided == ()
    assert (settings.training.iterations, settings.training.lr) == (3, 1e-3)


def test_folds_are_planned_one_by_one(data: Path, tmp_path: Path) -> None:
    shown: list[RunPlan] = []
    train.run_folds(data, tmp_path / "cv", quick(), 2, show=shown.append)
    assert [plan.settings.data.split.fold for plan in shown] == [0, 1]
    again: list[RunPlan] = []
    train.run_folds(data, tmp_path / "cv", quick(), 2, resume=True, show=again.append)
    assert [plan.decisions for plan in again] == [plan.decisions for plan in shown]


def test_the_plan_alone_trains_nothing(data: Path, tmp_path: Path) -> None:
    words = ["train", "--data", data, "--out", tmp_path / "run", "--plan-only"]
    result = call(*words, "--max-minutes", "0.001")
    assert result.exit_code == 0, result.output
    assert "training.batch_size: 2  # 2D" in result.stdout
    assert "The recipe needs about" in result.stderr
    assert result.stdout.splitlines()[-1].endswith("--max-minutes 0.001")
    assert not (tmp_path / "run" / "checkpoints").exists()
    plan = read_run_plan(tmp_path / "run", read_settings(tmp_path / "run" / "settings.yaml"))
    assert plan is not None
    result = call(*words, "--json", "--set", "training.lr=1e-3")
    tree = json.loads(result.stdout)
    found = {row["key"]: row for row in tree["decisions"]}
    assert found["training.lr"] == {
        "key": "training.lr", "value": 0.001, "reason": "set by you or a preset",
    }  # fmt: skip
    assert "iterations are about" in tree["remarks"][0]  # no limit of time: how long it takes
    refused = call(*words, "--resume")
    assert refused.exit_code == 2


def test_json_keeps_standard_output_for_programs(data: Path, tmp_path: Path) -> None:
    sets = [word for text in QUICK for word in ("--set", text)]
    result = call("train", "--data", data, "--out", tmp_path / "run", "--json", *sets)
    assert json.loads(result.stdout)["iterations"] == 3
    assert "training.batch_size: 2  # 2D" in result.stderr


def test_the_plan_is_an_artifact_of_the_tracked_run(data: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    settings = quick("tracking.enabled=true").model_copy(update={"tracking": store})
    train.run(data, tmp_path / "run", settings)
    link = json.loads((tmp_path / "run" / "mlflow.json").read_text())
    client = connect(str(store.uri))
    assert "recipe.json" in [item.path for item in client.list_artifacts(link["run_id"])]
    params = client.get_run(link["run_id"]).data.params
    assert params["training.lr"] == str(numbers.LR_MUON)


def test_timing_changes_neither_the_model_nor_the_random_state(run: Path) -> None:
    store = PreparedStore.open(run / "prepared")
    settings = read_settings(run / "settings.yaml")
    task = SegmentationLearner(settings, store, read_split(run / "split.json"))
    torch.manual_seed(0)
    model = task.build_model()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    timed = time_iterations(task, model, settings, Fabric(accelerator="cpu", devices=1))
    assert timed is not None
    assert timed.samples > 0 < timed.step
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_what_fits_is_told_in_numbers(run: Path) -> None:
    plan = PreparedStore.open(run / "prepared").plan
    timed = IterationTime(samples=0.5, step=0.5)

    def told(*more: str, prepared: bool = False) -> tuple[str, str | None]:
        settings = load_settings(None, more)
        table = time_table(timed, settings, plan, prepared=prepared)
        return table.text, table.warning

    text, warning = told("training.iterations=1200", "training.workers=0")
    assert "An iteration takes about 1 s: 1,200 iterations are about 20 minutes." in text
    assert warning is None
    # Prepared beside it, a batch costs nothing.
    assert "about 10 minutes" in told("training.iterations=1200", "training.workers=1")[0]
    minutes = "training.max_minutes=5"
    text, warning = told("training.iterations=100000", minutes, "training.workers=0")
    assert "about 300 iterations in 5 minutes" in text
    assert warning is not None
    assert "needs about 1,500 iterations to learn well: give it --max-minutes 25" in warning
    assert "--set preprocess." in warning
    prepared = told("training.iterations=100000", minutes, prepared=True)[1]
    assert prepared is not None
    assert "for `medseg-nca preprocess`" in prepared
    assert told("training.iterations=200", minutes)[1] is None  # the user asked for these
