"""Predict, evaluate, compare and answer with one tiny model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg_nca.datasets.pairs import open_pairs
from medseg_nca.datasets.redraw import SEEN
from medseg_nca.errors import (
    ConfigError,
    DataError,
    ImageError,
    Interrupted,
    ModelError,
    OutputError,
    PartialFailure,
)
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.io.read import read_values, read_volume
from medseg_nca.job import Job
from medseg_nca.pipelines import compare
from medseg_nca.tasks.base import EvaluateRequest, PredictRequest
from medseg_nca.tasks.regression import TASK
from tests.cli.runner import complains, run
from tests.tasks.regression.work import TINY, write_array


@pytest.fixture(scope="module")
def model(trained: Path) -> TaskModel:
    return TASK.load(trained / "model", "cpu")


@pytest.fixture(scope="module")
def images(trained: Path) -> list[Path]:
    return sorted((trained / "phantom" / "images").iterdir())


def predict(model: TaskModel, out: Path, *inputs: Path, **more: object) -> dict[str, Any]:
    TASK.predict(PredictRequest(model, inputs, out, **more), Job())  # type: ignore[arg-type]
    tree: dict[str, Any] = json.loads((out / "predictions.json").read_text())
    return tree


def test_pictures_give_floating_point_tiff(
    model: TaskModel, images: list[Path], tmp_path: Path
) -> None:
    tree = predict(model, tmp_path, *images[:2])
    found = read_volume(tmp_path / "phantom_00000.tiff")
    assert found.array.dtype == np.float32
    assert found.shape == read_volume(images[0]).shape
    assert (tree["task"], tree["targets"], tree["unit"]) == ("regression", ["depth"], "mm")
    first = tree["predictions"][0]
    assert first["ranges"]["depth"] == pytest.approx([found.array.min(), found.array.max()])
    assert first["outputs"] == {"values": str(tmp_path / "phantom_00000.tiff")}


def test_the_engine_of_the_run_is_used_and_recorded(
    trained: Path, images: list[Path], tmp_path: Path
) -> None:
    values = {}
    for name in ("cpu", "reference"):
        tree = predict(TASK.load(trained / "model", "cpu", name), tmp_path / name, images[0])
        assert tree["settings"]["engine"] == name
        values[name] = read_volume(tmp_path / name / "phantom_00000.tiff").array
    np.testing.assert_allclose(values["cpu"], values["reference"], rtol=1e-3)
    model = TASK.load(trained / "model", "cpu", "reference")
    metrics = evaluated(model, tmp_path / "out", data=trained / "phantom")
    assert metrics["settings"]["engine"] == "reference"


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_other_files_keep_format_and_grid(
    model: TaskModel, images: list[Path], tmp_path: Path, suffix: str
) -> None:
    write_array(tmp_path / "in" / f"a{suffix}", read_volume(images[0]).array, (0.5, 0.5, 1))
    predict(model, tmp_path / "out", tmp_path / "in")
    found, source = (read_volume(tmp_path / n / f"a{suffix}") for n in ("out", "in"))
    assert np.allclose(found.affine, source.affine)
    assert found.shape == source.shape
    assert found.array.dtype == np.float32
    # The input's own whole numbers leave no trace: values lie between them.
    assert np.abs(found.array - np.rint(found.array)).max() > 0.01


def test_a_format_can_be_asked_for(model: TaskModel, images: list[Path], tmp_path: Path) -> None:
    predict(model, tmp_path, images[0], formats=("nrrd", "nifti"))
    first, second = (read_volume(tmp_path / f"phantom_00000{s}") for s in (".nrrd", ".nii.gz"))
    assert np.array_equal(first.array, second.array)
    with pytest.raises(OutputError, match="dicom-seg"):
        predict(model, tmp_path, images[0], formats=("dicom-seg",))


def test_uncertainty_is_written_beside(
    model: TaskModel, images: list[Path], tmp_path: Path
) -> None:
    predict(model, tmp_path, images[0], options={"uncertainty": 2})
    spread = read_volume(tmp_path / "phantom_00000_uncertainty.tiff").array
    assert spread.min() >= 0
    assert spread.max() > 0


def test_what_is_finished_is_not_done_again(
    model: TaskModel, images: list[Path], tmp_path: Path
) -> None:
    request = PredictRequest(model, images[:2], tmp_path)
    first = TASK.predict(request, Job())
    (tmp_path / "phantom_00001.tiff").unlink()
    again = TASK.predict(request, Job())
    assert [record.cached for record in again] == [True, False]
    assert [record.to_dict()["ranges"] for record in first] == [
        record.to_dict()["ranges"] for record in again
    ]
    fresh = TASK.predict(PredictRequest(model, images[:2], tmp_path, fresh=True), Job())
    assert not any(record.cached for record in fresh)


def test_one_bad_file_fails_alone_and_by_name(
    model: TaskModel, images: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(images[0].read_bytes()[:40])
    with pytest.raises(PartialFailure, match="1 of 2") as caught:
        predict(model, tmp_path / "out", bad, images[0])
    assert list(caught.value.failures) == ["bad"]
    assert (tmp_path / "out" / "phantom_00000.tiff").is_file()
    tree = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert str(bad) in tree["predictions"][0]["error"]


def test_an_input_is_never_overwritten(
    model: TaskModel, images: list[Path], tmp_path: Path
) -> None:
    source = tmp_path / "a.tiff"
    write_array(source, read_volume(images[0]).array)
    before = source.read_bytes()
    with pytest.raises(OutputError, match=r"a\.tiff: is an input"):
        predict(model, tmp_path, source)
    assert source.read_bytes() == before
    picture = tmp_path / "pictures" / "b.png"
    picture.parent.mkdir()
    picture.write_bytes(images[0].read_bytes())
    with pytest.raises(OutputError, match=r"b\.tiff: would lie beside an input"):
        predict(model, picture.parent, picture)
    assert list(picture.parent.iterdir()) == [picture]
    predict(model, picture.parent / "out", picture)


def test_cancelled_it_keeps_what_is_finished(
    model: TaskModel, images: list[Path], tmp_path: Path
) -> None:
    job = Job(lambda p: job.cancel() if p.phase == "predicting" and p.done == 1 else None)
    with pytest.raises(Interrupted):
        TASK.predict(PredictRequest(model, images[:2], tmp_path), job)
    assert (tmp_path / "phantom_00000.tiff").is_file()
    again = TASK.predict(PredictRequest(model, images[:2], tmp_path), Job())
    assert [record.cached for record in again] == [True, False]


def test_workers_give_the_same(model: TaskModel, images: list[Path], tmp_path: Path) -> None:
    predict(model, tmp_path / "one", *images[:2])
    predict(model, tmp_path / "two", *images[:2], workers=2)
    for name in ("phantom_00000.tiff", "phantom_00001.tiff"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"options": {"seg_type": "binary"}}, "unknown option.*seg-type|seg-type"),
        ({"overrides": ("prediction.flip=[0]",)}, "flip"),
        ({"overrides": ("training.lr=1",)}, "training"),
        ({"options": {"largest": ("x",)}}, "--largest: is no option"),
    ],
)
def test_options_that_make_no_sense_are_named(
    model: TaskModel, images: list[Path], tmp_path: Path, more: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        predict(model, tmp_path, images[0], **more)


def test_nothing_to_predict_is_said(model: TaskModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to predict"):
        predict(model, tmp_path)


def evaluated(model: TaskModel, out: Path, **more: object) -> dict[str, Any]:
    evaluation = TASK.evaluate(EvaluateRequest(model, out=out, **more), Job())  # type: ignore[arg-type]
    assert evaluation.tree == json.loads((out / "metrics.json").read_text())
    return evaluation.tree


def test_an_evaluation_measures_beside_a_constant(
    model: TaskModel, trained: Path, tmp_path: Path
) -> None:
    """Without data it takes the run's made-up ones; the numbers are those of the files."""
    tree = evaluated(model, tmp_path / "out", data=None)
    split = json.loads((trained / "split.json").read_text())
    assert tree["split"] == {"name": "test", "cases": len(split["test"])}
    assert [case["id"] for case in tree["cases"]] == split["test"]
    part = tree["targets"]["depth"]
    average = model.spec.facts["targets"][0]["average"]
    own, constant = [], []
    for name in split["test"]:
        truth = read_values(trained / "phantom" / "targets" / f"{name}.tiff").array
        found = TASK.answer(model, read_volume(trained / f"phantom/images/{name}.png").array[None])
        own.append(float(np.sqrt(((found[0] - truth) ** 2).mean(dtype=np.float64))))
        constant.append(float(np.sqrt(((average - truth) ** 2).mean(dtype=np.float64))))
    assert part["rmse"]["mean"] == pytest.approx(np.mean(own), rel=1e-4)
    assert part["constant"]["rmse"] == pytest.approx(np.mean(constant), rel=1e-4)
    assert part["ratio"] == pytest.approx(np.mean(constant) / np.mean(own), rel=1e-4)
    assert tree["score"] == {"name": "skill", "value": tree["skill"], "better": "higher"}
    assert tree["skill"] == pytest.approx(1 - 1 / part["ratio"], abs=1e-4)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<figure>") == 3  # agreement, best and worst of two cases
    assert len((tmp_path / "out" / "metrics.csv").read_text().splitlines()) == 3


def test_a_model_without_its_run_is_tested_on_the_same_pairs(trained: Path, tmp_path: Path) -> None:
    alone = tmp_path / "elsewhere" / "model"
    shutil.copytree(trained / "model", alone)
    split = json.loads((trained / "split.json").read_text())
    for data in (None, trained / "phantom"):
        tree = evaluated(TASK.load(alone, "cpu"), tmp_path / "out", data=data)
        assert [case["id"] for case in tree["cases"]] == split["test"]
    known = json.loads((alone / "model.json").read_text())
    known["facts"] |= {"split": None, "listed": None}
    (alone / "model.json").write_text(json.dumps(known))
    tree = evaluated(TASK.load(alone, "cpu"), tmp_path / "out", data=trained / "phantom")
    assert tree["split"]["name"] == "all"
    assert tree["notes"][0].startswith("It is not known how the run split")
    assert tree["notes"][1] == SEEN


def test_the_terminal_sees_the_constant_in_the_same_table(
    model: TaskModel, trained: Path, tmp_path: Path
) -> None:
    tree = evaluated(model, tmp_path, data=trained / "phantom", split="all")
    table = TASK.table(tree)
    assert [row[0] for row in table.rows] == ["depth", "depth, constant"]
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert "RMSE mm" in table.columns
    assert TASK.published(tree)["rmse"] == tree["targets"]["depth"]["rmse"]["mean"]
    assert any("seen" in note for note in tree["notes"])


def test_a_model_compared_with_itself_differs_in_nothing(
    model: TaskModel, trained: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        evaluated(model, tmp_path / name, data=trained / "phantom")
    for metric in (None, "bias", "delta1"):
        tree = compare.run(tmp_path / "a", tmp_path / "b", metric=metric)
        assert tree["metric"] == (metric or "rmse")
        assert tree["labels"]["depth"]["difference"] == 0
    with pytest.raises(ConfigError, match="dice"):
        compare.run(tmp_path / "a", tmp_path / "b", metric="dice")


def test_an_interrupted_evaluation_goes_on_with_the_pairs_that_are_missing(
    model: TaskModel, trained: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(trained / "phantom", tmp_path / "set")
    request = EvaluateRequest(model, data, tmp_path / "out", split="all")

    def interrupt() -> None:
        job = Job(lambda p: job.cancel() if p.phase == "evaluating" and p.done == 3 else None)
        with pytest.raises(Interrupted):
            TASK.evaluate(request, job)
        assert not (tmp_path / "out" / "metrics.json").exists()

    def resumed(again: EvaluateRequest) -> tuple[float, dict[str, Any]]:
        found: list[float] = []
        job = Job(lambda p: found.append(p.facts.get("resumed", 0)))
        tree = TASK.evaluate(again, job).tree
        return max(found), {key: tree[key] for key in ("cases", "targets", "skill", "failed")}

    undisturbed = resumed(replace(request, out=tmp_path / "whole"))
    assert undisturbed[0] == 0
    interrupt()
    assert resumed(request) == (3, undisturbed[1])
    assert not (tmp_path / "out" / ".unfinished").exists()
    assert (tmp_path / "out/metrics.csv").read_bytes() == (
        tmp_path / "whole/metrics.csv"
    ).read_bytes()
    shutil.rmtree(tmp_path / "out")
    interrupt()
    assert resumed(replace(request, fresh=True)) == (0, undisturbed[1])
    shutil.rmtree(tmp_path / "out")
    interrupt()
    target = data / "targets" / "phantom_00001.tiff"  # the second of the pairs that are measured
    write_array(target, read_values(target).array + 1)
    count, changed = resumed(request)
    assert count == 2
    assert changed["cases"][1] != undisturbed[1]["cases"][1]
    assert changed["cases"][0] == undisturbed[1]["cases"][0]


def test_a_pair_that_fails_leaves_the_others(
    model: TaskModel, trained: Path, tmp_path: Path
) -> None:
    for name, suffix in (("images", ".png"), ("targets", ".tiff")):
        for number in (0, 1):
            source = trained / "phantom" / name / f"phantom_0000{number}{suffix}"
            target = tmp_path / "set" / name / f"new_{number}{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    write_array(tmp_path / "set/targets/new_1.tiff", np.full((1, 24, 20), np.nan, np.float32))
    request = EvaluateRequest(model, tmp_path / "set", tmp_path / "out")
    found = TASK.evaluate(request, Job())
    assert list(found.failed) == ["new_1"]
    assert "no value of the target is known" in found.failed["new_1"]
    assert found.tree["notes"][0].startswith("The run never split this data set")
    with pytest.raises(PartialFailure, match="1 of 2"):
        found.raise_for_failures()


def test_arrays_are_answered_in_the_unit_of_the_target(
    model: TaskModel, images: list[Path], tmp_path: Path
) -> None:
    batch = np.stack([read_volume(path).array for path in images[:2]])
    found = TASK.answer(model, batch)
    assert found.shape == (2, 1, *batch.shape[2:])
    predict(model, tmp_path, images[1])
    assert np.array_equal(found[1], read_volume(tmp_path / "phantom_00001.tiff").array)
    assert np.array_equal(TASK.answer(model, {"image": batch}), found)
    for wrong in (batch[0], batch[:, :, 0], np.concatenate([batch, batch], 1)):
        with pytest.raises(ImageError, match="channels"):
            TASK.answer(model, wrong)
    with pytest.raises(ImageError, match="no real numbers"):
        TASK.answer(model, np.full(batch.shape, np.nan))


def test_a_stored_answer_is_recognised(model: TaskModel) -> None:
    stored = TASK.make_reference(model)
    assert sum(map(len, stored.values())) < 40_000
    kept = TaskModel(model.module, model.spec.changed(reference=stored), model.folder, model.device)
    assert TASK.check_reference(kept).identical
    with pytest.raises(ModelError, match="no stored answer"):
        TASK.check_reference(model)


def test_tags_say_what_the_values_are(model: TaskModel) -> None:
    tags = TASK.tags(model)
    assert (tags["targets"], tags["unit"], tags["transform"]) == ("depth", "mm", "log")


def test_the_command_line_generates_and_refuses(tmp_path: Path) -> None:
    made = run("data", "phantom", tmp_path / "set", "--kind", "distance", "--cases", 1,
               "--size", "16x16x16")  # fmt: skip
    assert made.exit_code == 0, made.output
    assert [pair.id for pair in open_pairs(tmp_path / "set").cases] == ["phantom_00000"]
    refused = run("data", "phantom", tmp_path / "no", "--kind", "depth", "--dims", 3)
    assert refused.exit_code == 2
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("words", "overrides"),
    [
        (("no target", "p1.tiff"), ()),
        (("options", "los", "loss"), ("options.los=l1",)),
    ],
)
def test_bad_data_end_the_training_with_a_word(
    tmp_path: Path, words: tuple[str, ...], overrides: tuple[str, ...]
) -> None:
    write_array(tmp_path / "images" / "p1.tiff", np.arange(400.0).reshape(1, 20, 20))
    (tmp_path / "targets").mkdir()
    sets = [word for text in (*TINY, *overrides) for word in ("--set", text)]
    result = run("train", "--config", "phantom_depth", "--data", tmp_path,
                 "--out", tmp_path / "run", *sets)  # fmt: skip
    complains(result, *words)


def test_a_model_of_another_task_is_not_taken(trained: Path, tmp_path: Path) -> None:
    content = (trained / "model" / "model.json").read_text()
    (tmp_path / "model.json").write_text(content.replace('"regression"', '"segmentation"', 1))
    with pytest.raises(ModelError, match="task segmentation, not of regression"):
        TASK.read(tmp_path)


def test_another_number_of_axes_is_named(model: TaskModel, tmp_path: Path) -> None:
    write_array(tmp_path / "a.nii.gz", np.random.default_rng(0).random((1, 8, 8, 8)))
    with pytest.raises(PartialFailure) as caught:
        predict(model, tmp_path / "out", tmp_path / "a.nii.gz")
    assert "has 3 axes" in caught.value.failures["a"]
