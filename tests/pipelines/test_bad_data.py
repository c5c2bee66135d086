"""Data that nobody hopes for: trained with a plan that fits, or refused with the reason.

Each data set is made here, and trained for an iteration with the defaults.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medseg_nca.config import RunSettings
from medseg_nca.config.loading import load_settings
from medseg_nca.datasets.splits import read_split
from medseg_nca.errors import DataError
from medseg_nca.inference.bundle import load_bundle
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.read import read_image
from medseg_nca.pipelines import train
from medseg_nca.pipelines.train import RunResult
from medseg_nca.recipe.numbers import MOST_PARAMETERS

Array = NDArray[np.uint8]
SHAPE = (14, 16, 12)


def quick(*more: str) -> RunSettings:
    return load_settings(
        None, ["training.iterations=1", "tracking.enabled=false", "training.workers=0", *more]
    )


def blob(shape: tuple[int, ...], rng: np.random.Generator, size: int = 4) -> Array:
    """A cube of label 1 at a random place."""
    label = np.zeros(shape, np.uint8)
    starts = [int(rng.integers(0, max(n - size, 0) + 1)) for n in shape]
    label[tuple(slice(a, a + size) for a in starts)] = 1
    return label


def write_volumes(
    root: Path, labels: list[Array], names: list[str], *, channels: int = 1,
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
) -> Path:  # fmt: skip
    """A data set in the layout of the Decathlon; the labels show in the images."""
    rng = np.random.default_rng(1)
    training = []
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    affine = np.diag([*spacing, 1.0])
    for number, label in enumerate(labels):
        shape = label.shape if channels == 1 else (*label.shape, channels)
        image = rng.normal(size=shape) + (label if channels == 1 else label[..., None])
        name = f"case_{number:02}.nii.gz"
        nib.save(nib.Nifti1Image(image.astype(np.float32), affine), root / "imagesTr" / name)
        nib.save(nib.Nifti1Image(label, affine), root / "labelsTr" / name)
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    tree = {
        "name": "made up", "modality": {str(n): f"channel {n}" for n in range(channels)},
        "labels": {"0": "background", **{str(n): name for n, name in enumerate(names, start=1)}},
        "training": training, "test": [],
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(tree), encoding="utf-8")
    return root


def write_pictures(root: Path, labels: list[Array]) -> Path:
    """Grey PNG files."""
    rng = np.random.default_rng(1)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for number, label in enumerate(labels):
        image = (rng.normal(100, 20, label.shape) + 60 * label).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"case_{number:02}.png")
        Image.fromarray(label).save(root / "labels" / f"case_{number:02}.png")
    return root


def blacken(data: Path) -> None:
    """Leave the middle of every image only; the rest becomes exactly 0."""
    for path in sorted((data / "imagesTr").iterdir()):
        image = nib.load(path)
        array = np.asarray(image.dataobj).copy()
        middle = np.zeros(array.shape, bool)
        middle[8:16, 7:16, 8:17] = True
        array[~middle] = 0
        nib.save(nib.Nifti1Image(array, image.affine), path)


def trained(data: Path, out: Path, *more: str) -> tuple[RunResult, dict[str, Any]]:
    """Train, predict one image with the model, and return the result and the decisions."""
    result = train.run(data, out, quick(*more))
    rows = json.loads((out / "recipe.json").read_text(encoding="utf-8"))
    image = read_image([next(iter(sorted((data).glob("images*/case_00*"))))])
    predicted = Predictor(load_bundle(out / "model", "cpu")).predict(image)
    assert predicted.label_map.shape == image.shape
    assert result.parameters <= MOST_PARAMETERS
    return result, {row["key"]: row["value"] for row in rows}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_label_in_no_case(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_volumes(tmp_path / "data", [blob(SHAPE, rng) for _ in range(5)], ["a", "b"])
    trained(data, tmp_path / "run")
    told = [r.message for r in caplog.records if "'b' is in no training case" in r.message]
    assert len(told) == 1  # by the training alone, not by the preprocessing too
    assert "data.labels" in told[0]


def test_many_labels_of_one_fault_are_told_together(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"l{n}" for n in range(30)]
    trained(
        write_volumes(tmp_path / "data", [blob(SHAPE, rng) for _ in range(5)], names),
        tmp_path / "run",
    )
    assert "Each of 29 labels (l1, l2, l3, l4, l5 and 24 more) is in no training" in caplog.text


def test_a_label_smaller_than_a_cell_of_the_coarsest_level(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    labels = [blob((24, 24, 24), rng, size=1) for _ in range(4)]
    result, recipe = trained(write_volumes(tmp_path / "data", labels, ["a"]), tmp_path / "run")
    assert recipe["model.levels"][0]["scale"] == [4, 4, 4]
    assert result.training.iterations == 1


def test_one_case_is_trained_on_and_nothing_is_validated(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_volumes(tmp_path / "data", [blob(SHAPE, rng)], ["a"])
    result, recipe = trained(data, tmp_path / "run")
    assert "No case validates; 1 train: nobody will know how good the model is" in caplog.text
    assert "data.split.val" in caplog.text
    assert result.held_out == "train"
    assert np.isnan(result.training.best_score)
    assert recipe["augment.flip_axes"] == []


@pytest.mark.parametrize(("count", "sides"), [(2, (1, 1, 0)), (3, (1, 1, 1)), (5, (3, 1, 1))])
def test_few_cases(
    tmp_path: Path, rng: np.random.Generator, count: int, sides: tuple[int, ...]
) -> None:
    data = write_volumes(tmp_path / "data", [blob(SHAPE, rng) for _ in range(count)], ["a"])
    trained(data, tmp_path / "run")
    split = read_split(tmp_path / "run" / "split.json")
    assert (len(split.train), len(split.val), len(split.test)) == sides


def test_more_folds_than_cases_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    data = write_volumes(tmp_path / "data", [blob(SHAPE, rng) for _ in range(3)], ["a"])
    with pytest.raises(DataError, match=r"5 folds need at least 5 patients.*fewer folds"):
        train.run_folds(data, tmp_path / "cv", quick(), 5)


def test_thirty_labels(tmp_path: Path) -> None:
    label = (np.arange(np.prod(SHAPE)).reshape(SHAPE) // 9 % 31).astype(np.uint8)
    names = [f"l{n}" for n in range(1, 31)]
    _, recipe = trained(write_volumes(tmp_path / "data", [label] * 4, names), tmp_path / "run")
    assert recipe["model.cell.channels"] == 31


def test_twelve_channels(tmp_path: Path, rng: np.random.Generator) -> None:
    labels = [blob(SHAPE, rng) for _ in range(4)]
    data = write_volumes(tmp_path / "data", labels, ["a"], channels=12)
    _, recipe = trained(data, tmp_path / "run")
    assert recipe["model.cell.channels"] == 24


@pytest.mark.parametrize("size", [5, 16])
def test_tiny_pictures(tmp_path: Path, rng: np.random.Generator, size: int) -> None:
    labels = [blob((size, size), rng, 3) for _ in range(6)]
    _, recipe = trained(write_pictures(tmp_path / "data", labels), tmp_path / "run")
    assert recipe["preprocess.crop_size"] == [-(-size // 2) * 2 if size > 11 else size] * 2
    assert len(recipe["model.levels"]) == (2 if size > 11 else 1)


def test_pictures_of_all_sizes(tmp_path: Path, rng: np.random.Generator) -> None:
    labels = [blob((n, n + 3), rng, 4) for n in (6, 16, 40, 90, 64)]
    _, recipe = trained(write_pictures(tmp_path / "data", labels), tmp_path / "run")
    assert recipe["preprocess.crop_size"] == [44, 40]


@pytest.mark.slow
def test_large_pictures(tmp_path: Path, rng: np.random.Generator) -> None:
    labels = [blob((2000, 2000), rng, 40) for _ in range(3)]
    _, recipe = trained(write_pictures(tmp_path / "data", labels), tmp_path / "run")
    assert len(recipe["model.levels"]) == 8


@pytest.mark.parametrize("slices", [1, 3])
def test_volumes_of_few_slices(tmp_path: Path, rng: np.random.Generator, slices: int) -> None:
    labels = [blob((32, 32, slices), rng, 3) for _ in range(4)]
    data = write_volumes(tmp_path / "data", labels, ["a"], spacing=(1.0, 1.0, 8.0))
    _, recipe = trained(data, tmp_path / "run")
    assert recipe["preprocess.crop_size"][2] == slices
    assert {level["scale"][2] for level in recipe["model.levels"]} == {1}


def test_one_empty_label_map(tmp_path: Path, rng: np.random.Generator) -> None:
    labels = [blob(SHAPE, rng) for _ in range(6)]
    labels[2][:] = 0
    result, _ = trained(write_volumes(tmp_path / "data", labels, ["a"]), tmp_path / "run")
    assert result.training.iterations == 1


def test_nothing_but_empty_label_maps_is_refused(tmp_path: Path) -> None:
    data = write_volumes(tmp_path / "data", [np.zeros(SHAPE, np.uint8)] * 3, ["a"])
    with pytest.raises(DataError, match="nothing to learn: every label map is empty"):
        train.run(data, tmp_path / "run", quick())


def test_borders_of_zeros_are_cut_off(tmp_path: Path, rng: np.random.Generator) -> None:
    labels = [blob((24, 24, 24), rng) for _ in range(5)]
    data = write_volumes(tmp_path / "data", labels, ["a"])
    blacken(data)
    _, recipe = trained(data, tmp_path / "run")
    assert recipe["preprocess.crop"] == "nonzero"
    assert max(recipe["preprocess.crop_size"]) < 24
    _, whole = trained(data, tmp_path / "whole", "preprocess.crop=none")
    assert whole["preprocess.crop_size"] == [24, 24, 24]
