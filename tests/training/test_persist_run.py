"""A whole training with ``model.persist``: resumed, recorded, refused where it has no meaning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from medseg_nca.config import RunSettings
from medseg_nca.config.loading import load_settings
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.errors import ConfigError, Interrupted
from medseg_nca.inference.bundle import load_bundle
from medseg_nca.job import Job, Progress
from medseg_nca.pipelines import train
from medseg_nca.tasks.segmentation.learner import lowest
from medseg_nca.training.history import read_history
from medseg_nca.training.learner import Validation

PERSIST = "model.persist={begin: 0.5, chance: 0.9, extra: 2, holes: 0.5, noise: 0.1, still: 0.1}"
TINY = [
    "training.iterations=8", "training.max_minutes=null", "training.validate_every=8",
    "training.checkpoint_every=2", "training.log_every=1", "training.warmup=0",
    "training.batch_size=2", "preprocess.crop_size=[16,16]", "tracking.enabled=false",
    "data.split.val=0.2", "training.validate_steps=[1, 2]", PERSIST,
    "model.levels=[{scale: 2, steps: [2, 3]}, {scale: 1, steps: 2, patch: 8}]",
]  # fmt: skip


def settings() -> RunSettings:
    return load_settings("demo", TINY)


def test_a_stopped_training_goes_on_as_if_it_was_not_and_the_model_tells_it(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.phase == "training" and progress.done >= 500:
            job.cancel("Enough.")

    data = write_phantom(tmp_path / "data", 5, dims=2, size=(24, 24))
    straight, broken, job = tmp_path / "straight", tmp_path / "broken", Job(stop)
    train.run(data, straight, settings())
    with pytest.raises(Interrupted):
        train.run(data, broken, settings(), job=job)
    train.run(data, broken, settings(), resume=True)
    first, second = (load_file(r / "model" / "weights.safetensors") for r in (straight, broken))
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)

    rows = read_history(straight / "history.csv")
    at = [row["iteration"] for row in rows if "penalty_level_0" in row or "penalty_level_1" in row]
    assert at
    assert min(at) > 4
    last = rows[-1]
    assert {"val_dice_1_steps", "val_dice_2_steps"} < last.keys()
    assert last["val_dice"] == min(last["val_dice_1_steps"], last["val_dice_2_steps"])
    tree = json.loads((straight / "model" / "model.json").read_text())
    assert tree["model"]["persist"]["extra"] == 2
    kept = load_bundle(straight / "model", "cpu").spec.model
    assert kept.persist == settings().model.persist  # type: ignore[union-attr]


@pytest.mark.parametrize("preset", ["growing_emblem", "digits_classification"])
def test_tasks_that_do_not_read_it_refuse_it(tmp_path: Path, preset: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.persist has no meaning in the task"):
        train.run(None, tmp_path / "run", load_settings(preset, [PERSIST]))


def test_the_lowest_dice_of_several_numbers_of_steps_is_the_score() -> None:
    short = Validation(0.9, {"dice": 0.9, "dice_a": 0.9}, {"one": 0.8, "two": 1.0})
    long = Validation(0.6, {"dice": 0.6, "dice_a": 0.6}, {"one": 0.9, "two": 0.3})
    found = lowest({1.0: short, 4.0: long})
    assert found.score == 0.6
    assert found.metrics == {"dice": 0.6, "dice_a": 0.6, "dice_1_steps": 0.9, "dice_4_steps": 0.6}
    assert next(iter(found.metrics)) == "dice"
    assert found.cases == {"one": 0.8, "two": 0.3}


def test_a_network_without_steps_is_not_validated_at_several(tmp_path: Path) -> None:
    data = write_phantom(tmp_path / "data", 3, dims=2, size=(24, 24))
    wrong = load_settings(
        "demo",
        ["model=unet", "training.validate_steps=[1, 4]", "tracking.enabled=false"],
    )
    with pytest.raises(ConfigError, match=r"validate_steps: unet is no automaton"):
        train.run(data, tmp_path / "run", wrong)
