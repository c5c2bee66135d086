"""Images whose intensities are unlike those of the training are told."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from medseg_nca.job import Job
from medseg_nca.pipelines import train
from medseg_nca.tasks import TASKS
from medseg_nca.tasks.base import EvaluateRequest, PredictRequest
from medseg_nca.tasks.classification.likeness import unlike_training
from medseg_nca.tasks.classification.options import ClassificationOptions
from medseg_nca.tasks.classification.prepare import Facts, prepare
from tests.tasks.classification.shapes import halves, save_halves, settings_of

TASK = TASKS.get("classification")
FACTS = Facts(classes=("a", "b"), channels=1, size=(8, 8), mean=(5.0,), sd=(4.0,), low=(0.0,),
              high=(16.0,))  # fmt: skip


def told(image: np.ndarray, **options: str) -> str | None:
    found = ClassificationOptions(**options)
    return unlike_training(prepare(image[None], FACTS, found, "image"), FACTS, found)


def test_a_digit_of_255_steps_is_not_one_of_16() -> None:
    digit = np.tile(np.linspace(0, 16, 8), (8, 1))
    assert told(digit) is None
    assert told(digit * 1.9) is None
    text = told(digit * 255 / 16)
    assert text == "its intensities run from 0 to 255, those of the training from 0 to 16"
    assert told(digit * 255 / 16, normalise="none") is not None
    assert told(digit * 255 / 16, normalise="image") is None


def test_an_image_of_shares_has_hardly_any_contrast() -> None:
    text = told(np.tile(np.linspace(0, 0.5, 8), (8, 1)))
    assert text == "its intensities run only from 0 to 0.5, those of the training from 0 to 16"


def test_predict_and_evaluate_say_it(
    tmp_path: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train.run(data, tmp_path / "run", settings_of("training.iterations=2"))
    model = TASK.load(tmp_path / "run" / "model", "cpu")
    images = halves(3).astype(np.uint16)
    images[0] *= 100
    np.savez(tmp_path / "three.npz", images=images)
    with caplog.at_level(logging.WARNING, logger="medseg_nca"):
        TASK.predict(PredictRequest(model, [tmp_path / "three.npz"], tmp_path / "p"), Job())
    said = [record.getMessage() for record in caplog.records]
    assert sum(text.startswith("1 of 3 images is unlike the images") for text in said) == 1
    tree = json.loads((tmp_path / "p" / "predictions.json").read_text())
    assert [row["unlike"] is None for row in tree["predictions"]] == [False, True, True]

    save_halves(tmp_path / "bright.npz")
    bright = dict(np.load(tmp_path / "bright.npz"))
    np.savez(tmp_path / "bright.npz", images=bright["images"] * np.uint16(100),
             labels=bright["labels"])  # fmt: skip
    found = TASK.evaluate(EvaluateRequest(model, tmp_path / "bright.npz", tmp_path / "e"), Job())
    assert any("40 of 40 images are unlike" in note for note in found.tree["notes"])
