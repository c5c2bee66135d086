"""Trainings of the task: data made in the run folder, repeatable, resumed, 3D, networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from medseg_nca.config.loading import load_settings
from medseg_nca.datasets.pairs import open_pairs
from medseg_nca.errors import ConfigError, DataError, Interrupted, ModelError
from medseg_nca.io.read import read_volume
from medseg_nca.job import Job, Progress
from medseg_nca.pipelines import train
from medseg_nca.tasks.regression import TASK
from tests.tasks.regression.work import TINY, tiny_settings, write_array, write_pairs


def weights(run: Path) -> dict[str, np.ndarray]:
    return load_file(run / "model" / "weights.safetensors")


def same(first: Path, second: Path) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_a_run_without_data_makes_them(trained: Path) -> None:
    assert len(open_pairs(trained / "phantom").cases) == 6
    split = json.loads((trained / "split.json").read_text())
    assert len(split["train"]) == 3
    result = json.loads((trained / "training.json").read_text())
    assert (result["task"], result["held_out"], result["score"]) == ("regression", "test", "skill")
    assert result["constant"]["score"] == 0
    assert {path.name for path in (trained / "figures").iterdir()} >= {
        "curves.png", "validation_worst.png", "validation_median.png",
    }  # fmt: skip


def test_the_model_says_what_it_learned_from(trained: Path) -> None:
    spec = TASK.read(trained / "model")
    facts = spec.facts["targets"][0]
    split = json.loads((trained / "split.json").read_text())
    pairs = {pair.id: pair for pair in open_pairs(trained / "phantom").cases}

    values = np.concatenate([
        read_volume(pairs[name].target).array.ravel() for name in split["train"]
    ])  # fmt: skip
    assert facts["average"] == pytest.approx(values.mean(dtype=np.float64))
    assert facts["spread"] == pytest.approx(values.std(dtype=np.float64))
    assert next(iter(spec.metrics)) == "skill"
    assert spec.options["transform"] == "log"


def test_the_same_settings_give_the_same_weights(trained: Path, tmp_path: Path) -> None:
    train.run(trained / "phantom", tmp_path / "again", tiny_settings())
    assert same(trained, tmp_path / "again")


def test_a_run_that_was_stopped_goes_on_as_if_it_was_not(trained: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.phase == "training" and progress.done >= 400:
            job.cancel("Enough.")

    job = Job(stop)
    settings, out = tiny_settings("training.log_every=1"), tmp_path / "run"
    with pytest.raises(Interrupted):
        train.run(trained / "phantom", out, settings, job=job)
    train.run(trained / "phantom", out, settings, resume=True)
    assert same(trained, out)


def test_a_run_goes_on_with_its_own_data_only(trained: Path, tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "other")
    with pytest.raises(DataError, match="not the one that the run was started with"):
        train.run(data, trained, tiny_settings(), resume=True)


def test_three_axes_two_channels_two_targets(tmp_path: Path) -> None:
    for number in range(4):
        rng = np.random.default_rng(number)
        target = rng.normal(3, 1, (2, 12, 10, 8)).astype(np.float32)
        target[0, :2] = np.nan
        image = np.stack([target[1], rng.normal(size=(12, 10, 8))]).astype(np.float32)
        write_array(tmp_path / "set" / "images" / f"c{number}.nii.gz", image, (1, 1, 2))
        write_array(tmp_path / "set" / "targets" / f"c{number}.nii.gz", target, (1, 1, 2))
    levels = "model.levels=[{scale: [2, 2, 1], steps: 2}, {scale: 1, steps: 2}]"
    settings = tiny_settings("options.transform=none", "augment.flip_axes=[0]", levels)
    train.run(tmp_path / "set", tmp_path / "run", settings)
    spec = TASK.read(tmp_path / "run" / "model")
    assert (spec.model.dims, spec.model.in_channels, spec.model.out_channels) == (3, 2, 2)
    assert list(spec.metrics)[:3] == ["skill", "rmse_target_0", "rmse_target_1"]


def test_a_network_learns_the_same_way(trained: Path, tmp_path: Path) -> None:

    own = [text for text in TINY if not text.startswith("model.")]
    settings = load_settings("phantom_depth", (*own, "model=unet", "training.iterations=1"))
    settings = settings.changed(
        model=settings.model.changed(params={"channels": [4, 8], "strides": [2]})
    )
    train.run(trained / "phantom", tmp_path / "run", settings)
    assert TASK.load(tmp_path / "run" / "model", "cpu").spec.model.name == "unet"


def test_spacings_that_differ_are_brought_to_one(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "set", 6, suffix=".nii.gz")
    write_pairs(tmp_path / "more", 4, suffix=".nii.gz", spacing=(2, 2, 1))
    for name in ("images", "targets"):
        (tmp_path / "more" / name / "c3.nii.gz").rename(folder / name / "d.nii.gz")
    train.run(folder, tmp_path / "run", tiny_settings("options.transform=none"))
    spec = TASK.read(tmp_path / "run" / "model")
    assert spec.facts["plan"]["spacing"] == [1.0, 1.0]


BAD = {
    "a few whole numbers": (["options.transform=none"], "look like label maps"),
    "log of zero": (["options.transform=log"], r"targets/c0\.nii\.gz: holds 0, and .*log"),
}


@pytest.mark.parametrize("name", BAD)
def test_targets_that_do_not_fit_are_refused(name: str, tmp_path: Path) -> None:
    overrides, words = BAD[name]
    for number in range(3):
        array = np.indices((16, 16)).sum(0)[None] % 3
        write_array(tmp_path / "images" / f"c{number}.nii.gz", array.astype(np.float32))
        write_array(tmp_path / "targets" / f"c{number}.nii.gz", array.astype(np.uint8))
    with pytest.raises(DataError, match=words) as caught:
        train.run(tmp_path, tmp_path / "run", tiny_settings(*overrides))
    if "label" in words:
        assert "segmentation" in str(caught.value.hint)
        train.run(tmp_path, tmp_path / "run", tiny_settings(*overrides, "options.few_values=true"))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("images", r"images/c2\.tiff: has 3 channels; 1"),
        ("targets", r"c2\.tiff: has 3 channels; 1"),
    ],
)
def test_other_channels_than_the_first_are_named(kind: str, words: str, tmp_path: Path) -> None:
    write_pairs(tmp_path, 3)
    array = np.random.default_rng(0).random((3, 20, 16)).astype(np.float32)
    write_array(tmp_path / kind / "c2.tiff", array)
    with pytest.raises(DataError, match=words):
        train.run(tmp_path, tmp_path / "run", tiny_settings())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["options.los=l1"], r"options: .*los.*loss"),
        (["options.loss=l3"], r"options: .*loss"),
        (["options.huber_delta=0"], "huber_delta"),
        (["options.phantom.size=[24, 20, 20]"], "size must have 2 numbers"),
        (["preprocess.crop=nonzero"], r"preprocess\.crop"),
        (["prediction.probabilities=true"], r"prediction\.probabilities is for label maps"),
    ],
)
def test_settings_that_make_no_sense_are_named(
    overrides: list[str], words: str, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        train.run(trained / "phantom", tmp_path / "run", tiny_settings(*overrides))


def test_without_data_and_without_phantom_the_next_step_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs pairs") as caught:
        train.run(None, tmp_path / "run", tiny_settings("options.data=given"))
    assert "--data" in str(caught.value.hint)


def test_facts_that_were_changed_by_hand_are_refused_by_name(trained: Path, tmp_path: Path) -> None:
    spec = TASK.read(trained / "model")
    for part, change, words in (
        ("targets", [], r"facts: targets"),
        ("transform", "exp", r"facts: transform"),
        ("targets", [{**spec.facts["targets"][0], "sd": 0}], r"facts: targets\.0\.sd"),
        ("targets", spec.facts["targets"] * 2, "names of their own"),
    ):
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        (folder / "weights.safetensors").write_bytes(
            (trained / "model" / "weights.safetensors").read_bytes()
        )
        (folder / "model.json").write_text(
            spec.changed(facts={**spec.facts, part: change}).to_json()
        )
        with pytest.raises(ModelError, match=words):
            TASK.read(folder)


@pytest.mark.slow
def test_it_learns_the_depth(tmp_path: Path) -> None:
    """Better than a constant after seconds; docs/regression.md says how good it gets."""
    torch.set_num_threads(1)
    settings = tiny_settings(
        "options.phantom.cases=24", "options.phantom.size=[32, 32]", "training.iterations=120",
        "training.validate_every=60", "model.cell.channels=12", "model.cell.update.hidden=32",
    )  # fmt: skip
    result = train.run(None, tmp_path / "run", settings)
    assert result.training.learned
    assert result.training.best_score > 0.4


def test_without_a_preset_the_task_decides_what_is_open(tmp_path: Path) -> None:
    wanted = ("task=regression", "training.iterations=2", "tracking.enabled=false", "device=cpu",
              "model.cell.channels=6", "model.cell.update.hidden=8")  # fmt: skip
    settings = load_settings(None, wanted)
    data = write_pairs(tmp_path / "set", shape=(24, 24))
    train.run(data, tmp_path / "run", settings)
    rows = json.loads((tmp_path / "run" / "recipe.json").read_text())
    decided = {row["key"]: row["value"] for row in rows}
    assert decided["training.optimiser"] == "muon"
    spec = TASK.read(tmp_path / "run" / "model")
    assert len(spec.model.levels) == len(spec.facts["plan"]["scales"])  # type: ignore[union-attr]


def test_folds_of_a_task_that_joins_no_models_are_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="medseg_nca")
    settings = tiny_settings("training.iterations=1", "data.split.test=0")
    results = train.run_folds(None, tmp_path, settings, 2)
    assert [result.run.name for result in results] == ["fold_0", "fold_1"]
    assert not (tmp_path / "ensemble").exists()
    assert "joins no models" in caplog.text
    assert not [r for r in caplog.records if r.levelname == "WARNING" and "join" in r.message]
