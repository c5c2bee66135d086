"""Trainings of a classification: what they accept, and that they can be repeated and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from medseg_nca.errors import DataError, Interrupted
from medseg_nca.job import Job
from medseg_nca.pipelines import train
from medseg_nca.tasks import TASKS
from medseg_nca.tasks.base import EvaluateRequest
from tests.tasks.classification.shapes import CLASSES, halves, save_halves, settings_of

TASK = TASKS.get("classification")


def test_the_same_seed_gives_the_same_model(data: Path, tmp_path: Path) -> None:
    short = settings_of("training.iterations=4", "training.validate_every=4", "options.looks=2")
    for name in ("a", "b"):
        train.run(data, tmp_path / name, short)
    first, second = (tmp_path / name / "model" / "weights.safetensors" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a/split.json").read_text() == (tmp_path / "b/split.json").read_text()


def test_a_resumed_training_ends_as_an_undisturbed_one(data: Path, tmp_path: Path) -> None:
    short = settings_of(
        "training.iterations=8", "training.checkpoint_every=2", "options.balance=weights"
    )
    train.run(data, tmp_path / "whole", short)
    job = Job(lambda p: job.cancel() if p.phase == "training" and p.done >= 400 else None)
    with pytest.raises(Interrupted):
        train.run(data, tmp_path / "cut", short, job=job)
    train.run(data, tmp_path / "cut", short, resume=True)
    whole, cut = (tmp_path / name / "model" for name in ("whole", "cut"))
    name = "weights.safetensors"
    assert (cut / name).read_bytes() == (whole / name).read_bytes()
    facts = [json.loads((path / "model.json").read_text())["facts"] for path in (whole, cut)]
    assert facts[0] == facts[1]


@pytest.mark.parametrize("readout", ["votes", "pooled", "attention"])
def test_volumes_are_learned_too(readout: str, tmp_path: Path) -> None:
    path = save_halves(tmp_path / "v.npz", 24, (3, 5, 4))
    settings = settings_of(
        "model.dims=3", f"options.readout={readout}", "training.iterations=50",
        "augment.enabled=false", "training.lr=2e-2", "training.validate_every=50",
    )  # fmt: skip
    train.run(path, tmp_path / "run", settings)
    model = TASK.load(tmp_path / "run" / "model", "cpu")
    tree = TASK.evaluate(EvaluateRequest(model, path, tmp_path / "e"), Job()).tree
    assert tree["accuracy"] == 1.0


def test_images_of_several_sizes_and_colours_are_brought_to_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for place, image in enumerate(halves(12, (8, 6))):
        folder = tmp_path / "d" / CLASSES[place % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image).resize((6 + place % 3, 8))
        (picture.convert("RGB") if place == 3 else picture).save(folder / f"{place}.png")
    (tmp_path / "d" / "left" / "no.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    settings = settings_of("training.iterations=2", "options.fit=pad", "data.split.test=0")
    with caplog.at_level("INFO"):
        train.run(tmp_path / "d", tmp_path / "run", settings)
    assert "Images are brought to 7 x 8 pixels (pad)" in caplog.text
    assert "no.png" in caplog.text
    assert TASK.load(tmp_path / "run" / "model", "cpu").spec.facts["channels"] == 1


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("options.redout=votes", "did you mean 'readout'"),
        ("options.readout=vote", "readout"),
        ("options={inside: 0.1, normalise: image}", "inside is a share of the data set's range"),
        ("options.size=[6,6,6]", "options.size has 3 numbers, and the images have 2 axes"),
        ("options.class_names=[left]", "1 different names for 2 classes"),
        ("augment.flip_axes=[2]", "there is no axis 2 in 2D"),
        ("data.split.folds=40", "too few for 40 folds"),
        ("preprocess.memory_budget_gb=1e-6", "take 0.0 GB; the budget is"),
    ],
)
def test_wrong_settings_are_refused_by_name(
    override: str, match: str, data: Path, tmp_path: Path
) -> None:
    from medseg_nca.errors import MedsegError

    with pytest.raises(MedsegError, match=match):
        train.run(data, tmp_path / "run", settings_of(override))
    assert not (tmp_path / "run" / "model").exists()


def test_without_data_the_built_in_ones_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs data") as error:
        train.run(None, tmp_path / "run", settings_of())
    assert "options.data=digits" in str(error.value.hint)
