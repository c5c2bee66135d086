"""Predicting folders: what is an input, what a result, and what is said of an empty one."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

from medseg_nca.cases.predict_case import OutputSettings
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.errors import DataError, Interrupted
from medseg_nca.inference.bundle import LoadedModel, load_bundle
from medseg_nca.job import Job, Progress
from medseg_nca.tasks.segmentation import prediction
from tests.tracking.tiny import save_tiny

PNG = OutputSettings(formats=("png",))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict") / "data"
    return write_phantom(folder, cases=2, seed=1, dims=2, size=(24, 20)) / "imagesTr"


@pytest.fixture
def images(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "images"))


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    save_tiny(tmp_path / "model", dims=2)
    return load_bundle(tmp_path / "model", "cpu")


def listed(out: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((out / "predictions.json").read_text())
    return found["predictions"]  # type: ignore[call-overload, no-any-return]


def names(out: Path) -> list[str]:
    return [Path(str(entry["input"])).name for entry in listed(out)]


INPUTS = ["phantom_00000.nii.gz", "phantom_00001.nii.gz"]


@pytest.mark.parametrize("fresh", [False, True])
def test_results_beside_their_inputs_are_no_inputs(
    images: Path, model: LoadedModel, fresh: bool
) -> None:
    first = prediction.run(prediction.PredictSegmentation(model, [images], images, output=PNG))
    assert names(images) == INPUTS
    again = prediction.run(
        prediction.PredictSegmentation(model, [images], images, output=PNG, fresh=fresh)
    )
    assert names(images) == INPUTS
    assert [file.outputs for file in again] == [file.outputs for file in first]
    assert len(list(images.iterdir())) == 5


def test_results_of_a_run_that_was_stopped_are_no_inputs_either(
    images: Path, model: LoadedModel
) -> None:
    def stop(progress: Progress) -> None:
        if progress.phase == "predicting" and progress.done == 1:
            job.cancel()

    job = Job(stop)
    with pytest.raises(Interrupted):
        prediction.run(prediction.PredictSegmentation(model, [images], images, output=PNG), job)
    assert len(list(images.glob("*.png"))) == 1
    prediction.run(prediction.PredictSegmentation(model, [images], images, output=PNG))
    assert names(images) == INPUTS


def test_an_image_that_replaced_a_result_is_not_overwritten(
    images: Path, model: LoadedModel
) -> None:
    prediction.run(prediction.PredictSegmentation(model, [images], images, output=PNG))
    mine = images / "phantom_00000.png"
    mine.write_bytes(mine.read_bytes() + b"another picture")
    prediction.run(prediction.PredictSegmentation(model, [images], images, output=PNG))
    assert names(images) == [INPUTS[0], mine.name, INPUTS[1]]
    assert mine.read_bytes().endswith(b"another picture")


def test_halves_of_images_are_told_of(
    images: Path, model: LoadedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (images / "other.mhd").write_text("ElementDataFile = other.raw\n")
    prediction.run(prediction.PredictSegmentation(model, [images], tmp_path / "out"))
    assert "(other.mhd): Save both as one file" in caplog.text
    assert names(tmp_path / "out") == INPUTS
    for path in images.glob("*.nii.gz"):
        path.unlink()
    with pytest.raises(DataError, match=r"\(other\.mhd\): Save both as one file"):
        prediction.run(prediction.PredictSegmentation(model, [images], tmp_path / "out"))


def test_images_in_sub_folders_are_told_of(
    images: Path, model: LoadedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    below = Path(shutil.copytree(images, images / "site" / "p7"))
    prediction.run(prediction.PredictSegmentation(model, [images], tmp_path / "out"))
    assert f"{images}: 2 image(s) in sub-folders are passed over (site/p7)" in caplog.text
    assert names(tmp_path / "out") == INPUTS
    caplog.clear()
    prediction.run(prediction.PredictSegmentation(model, [images, below], tmp_path / "both"))
    assert "sub-folders" not in caplog.text
    assert len(listed(tmp_path / "both")) == 4
    with pytest.raises(DataError, match=r"its images lie in sub-folders: p7\.") as error:
        prediction.run(
            prediction.PredictSegmentation(model, [below.parent.parent / "site"], tmp_path / "none")
        )
    assert str(below) in str(error.value.hint)


def test_results_in_a_sub_folder_are_not_told_of(
    images: Path, model: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        prediction.run(prediction.PredictSegmentation(model, [images], images / "out"))
    assert "sub-folders" not in caplog.text
    assert names(images / "out") == INPUTS


def test_a_result_without_any_label_is_told_of(
    images: Path, model: LoadedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prediction.run(prediction.PredictSegmentation(model, [images], tmp_path / "found"))
    assert [entry["empty"] for entry in listed(tmp_path / "found")] == [False, False]
    assert "No label was found" not in caplog.text
    with torch.no_grad():
        for weights in model.model.parameters():
            weights.zero_()  # all channels alike: the background comes first
    for _ in range(2):  # also when an earlier run made it
        caplog.clear()
        results = prediction.run(
            prediction.PredictSegmentation(model, [images], tmp_path / "empty")
        )
        assert [result.empty for result in results] == [True, True]
        assert [entry["empty"] for entry in listed(tmp_path / "empty")] == [True, True]
        assert f"No label was found in 2 of 2 images ({', '.join(INPUTS)})" in caplog.text
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_a_model_that_says_nothing_of_its_training_is_told_of(
    images: Path, model: LoadedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prediction.run(prediction.PredictSegmentation(model, [images], tmp_path / "out"))
    assert caplog.text.count("no image is compared with them") == 1
