"""From a phantom to a trained model and predictions, through the pipelines and the command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from medseg_nca.cases.prediction_inputs import find_cases, group_channels
from medseg_nca.cli.predict import predict as predict_command
from medseg_nca.config import RunSettings
from medseg_nca.config.data import AugmentSettings
from medseg_nca.config.loading import load_settings, read_settings
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.datasets.prepared import PreparedStore
from medseg_nca.datasets.splits import read_split
from medseg_nca.errors import (
    ConfigError,
    DataError,
    Interrupted,
    NothingLearned,
    OutputError,
    PartialFailure,
)
from medseg_nca.inference.bundle import load_bundle
from medseg_nca.io.read import read_volume
from medseg_nca.job import Job, Progress
from medseg_nca.models.views import ViewSpec
from medseg_nca.pipelines import preprocess, train
from medseg_nca.tasks.segmentation import evaluation, prediction
from medseg_nca.tasks.segmentation.learner import SegmentationLearner
from medseg_nca.tasks.segmentation.samples import SampleSource
from medseg_nca.tracking.store import connect
from medseg_nca.training.history import read_history
from tests.tracking.tiny import new_store

TINY = [
    "training.iterations=12", "training.max_minutes=null", "training.validate_every=6",
    "training.checkpoint_every=4", "training.log_every=2", "training.warmup=0",
    "data.split.val=0.2",
    "preprocess.crop_size=[16,16]", "tracking.enabled=false", "training.batch_size=2",
    "model.levels=[{scale: 2, steps: [2, 3]}, {scale: 1, steps: 2, patch: 8}]",
]  # fmt: skip


def tiny_settings(*more: str) -> RunSettings:
    return load_settings("demo", [*TINY, *more])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(
        tmp_path_factory.mktemp("phantom") / "data", cases=8, seed=1, dims=2, size=(24, 20)
    )


@pytest.fixture(scope="module")
def prepared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "store"
    preprocess.run(preprocess.PreprocessRequest(data, out, tiny_settings(), workers=0))
    return out


@pytest.fixture(scope="module")
def run(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    train.run(prepared, out, tiny_settings())
    return out


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(str(run / "model" / "weights.safetensors"))


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_run_folder_holds_everything(run: Path, prepared: Path) -> None:
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {
        "settings.yaml", "recipe.json", "split.json", "train.log", "history.csv", "training.json",
        "checkpoints/last.pt", "checkpoints/previous.pt", "checkpoints/best.pt",
        "model/weights.safetensors", "model/model.json",
        "figures/curves.png", "figures/validation_worst.png", "figures/validation_median.png",
        "figures/automaton.gif",
    } <= names  # fmt: skip
    stored, asked = read_settings(run / "settings.yaml"), tiny_settings()
    assert stored.model_copy(update={"preprocess": asked.preprocess}) == asked
    # What the plan of the data decided is told in numbers.
    plan = PreparedStore.open(prepared).plan
    assert stored.preprocess.spacing == plan.spacing
    assert stored.preprocess.normalise == plan.normalise == "zscore"
    assert {"loss", "val_dice", "lr"} <= {k for r in read_history(run / "history.csv") for k in r}
    split = read_split(run / "split.json")
    assert len(split.train) + len(split.val) + len(split.test) == 8
    spec = load_bundle(run / "model", "cpu").spec
    assert spec.training_data_hash
    assert spec.model.in_channels == 1


def test_the_same_seed_gives_the_same_model(prepared: Path, run: Path, tmp_path: Path) -> None:
    train.run(prepared, tmp_path / "run", tiny_settings())
    assert_same(weights(tmp_path / "run"), weights(run))


@pytest.mark.slow
def test_after_kill_9_resume_ends_where_an_undisturbed_run_does(
    prepared: Path, tmp_path: Path
) -> None:
    longer = ["training.iterations=60", "training.validate_every=20"]
    train.run(prepared, tmp_path / "straight", tiny_settings(*longer))
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "medseg_nca", "train", "--config", "demo"]
    command += ["--data", str(prepared), "--out", str(killed)]
    for item in [*TINY, *longer]:
        command += ["--set", item]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300  # it may compile the engine first
    history = killed / "history.csv"
    while time.monotonic() < deadline and process.poll() is None:
        if history.exists() and any(r["iteration"] >= 10 for r in read_history(history)):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    assert process.wait(60) == -signal.SIGKILL
    assert not (killed / "model").exists()
    train.run(prepared, killed, tiny_settings(*longer), resume=True)
    assert_same(weights(killed), weights(tmp_path / "straight"))


@pytest.mark.slow
def test_two_processes_train_together(prepared: Path, tmp_path: Path) -> None:
    """Under torchrun, without a change: one run folder, gradients averaged over both."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]
    command += ["medseg_nca", "train", "--config", "demo", "--data", str(prepared)]
    command += ["--out", str(run), "--json"]
    for item in TINY:
        command += ["--set", item]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    # So few iterations teach nothing; the first process says so, for both.
    assert done.stderr.count("is no better than a constant answer") == 1, done.stderr[-2000:]
    assert "exitcode  : 5" in done.stderr
    assert done.stdout.count('"iterations": 12') == 1
    assert read_history(run / "history.csv")[-1]["iteration"] == 12
    load_bundle(run / "model", "cpu")


def test_a_run_that_teaches_nothing_says_so_in_its_result_and_in_the_store(
    prepared: Path, run: Path, tmp_path: Path
) -> None:
    store = new_store(tmp_path / "store")
    settings = tiny_settings("training.lr=1e-12", "tracking.enabled=true")
    settings = settings.model_copy(update={"tracking": store})
    result = train.run(prepared, tmp_path / "run", settings)
    with pytest.raises(NothingLearned, match=r"run: the model is no better than a constant"):
        train.raise_if_useless([result])
    tree = json.loads((tmp_path / "run" / "training.json").read_text())
    assert tree["learned"] is False
    assert tree["constant"]["loss"] > 0
    assert tree["lowest_loss"] is None  # too few iterations for a mean
    assert any("constant answer" in remark for remark in tree["remarks"])
    assert "constant answer" in (tmp_path / "run" / "train.log").read_text()
    load_bundle(tmp_path / "run" / "model", "cpu")
    link = json.loads((tmp_path / "run" / "mlflow.json").read_text())
    stored = connect(str(store.uri)).get_run(link["run_id"]).data
    assert (stored.tags["learned"], stored.tags["ended_by"]) == ("no", "iterations")
    assert stored.metrics["constant_loss"] == pytest.approx(tree["constant"]["loss"])


def test_raw_data_is_prepared_on_the_way(data: Path, tmp_path: Path) -> None:
    train.run(data, tmp_path / "run", tiny_settings("training.iterations=1"))
    assert (tmp_path / "run" / "prepared" / "prepared.json").exists()


def test_a_run_is_neither_overwritten_nor_resumed_from_nothing(
    prepared: Path, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=r"already holds a run.*--resume"):
        train.run(prepared, run, tiny_settings())
    with pytest.raises(DataError, match="no run to resume"):
        train.run(prepared, tmp_path / "none", tiny_settings(), resume=True)


def test_folds_hold_out_each_case_once(prepared: Path, tmp_path: Path) -> None:
    short = tiny_settings("training.iterations=2", "training.log_every=1", "data.split.test=0")
    heard: list[Progress] = []
    results = train.run_folds(prepared, tmp_path / "cv", short, 2, job=Job(heard.append))
    done = [one.done for one in heard if one.phase == "training"]
    assert sorted(set(done)) == [500, 1000, 1500, 2000]
    assert done == sorted(done)
    held_out = [read_split(result.run / "split.json").val for result in results]
    assert sorted(case for fold in held_out for case in fold) == [
        f"phantom_{i:05d}" for i in range(8)
    ]
    with pytest.raises(ConfigError, match="there are 2 folds, 0 to 1"):
        train.with_fold(short, 2, 2)


def test_a_validation_ends_when_its_job_is_cancelled(prepared: Path, run: Path) -> None:
    settings, split = read_settings(run / "settings.yaml"), read_split(run / "split.json")
    task = SegmentationLearner(settings, PreparedStore.open(prepared), split)
    model, job = task.build_model(), Job()
    assert task.validate(model, torch.device("cpu"), job).cases
    job.cancel("The client has left.")
    with pytest.raises(Interrupted, match="The client has left"):
        task.validate(model, torch.device("cpu"), job)


def test_the_validation_decides_on_islands_and_the_model_keeps_it(
    prepared: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "medseg_nca")
    out = tmp_path / "run"
    flips = ("augment.flip_axes=[0]", "prediction.flips=auto")
    train.run(prepared, out, tiny_settings("data.split.val=0.5", "training.iterations=2", *flips))
    log = (out / "train.log").read_text()
    assert "part is kept: " in log or "every part is kept: " in log
    assert "prove nothing" not in log
    assert "Flips of the axis 0 are " in log
    loaded = load_bundle(out / "model", "cpu")
    assert "auto" not in (loaded.spec.prediction.largest, loaded.spec.prediction.flips)
    few = tmp_path / "few"
    train.run(prepared, few, tiny_settings("data.split.val=0.2", "training.iterations=2"))
    assert "fewer than 3 prove nothing" in (few / "train.log").read_text()
    assert load_bundle(few / "model", "cpu").spec.prediction.largest == ()
    given = tmp_path / "given"
    named = tiny_settings("prediction.largest=[merged]", "training.iterations=2")
    train.run(prepared, given, named)
    assert "part is kept" not in (given / "train.log").read_text()
    assert load_bundle(given / "model", "cpu").spec.prediction.largest == ("merged",)
    with pytest.raises(ConfigError, match=r"prediction\.largest: Unknown label 'orgn'"):
        train.run(prepared, tmp_path / "no", tiny_settings("prediction.largest=[orgn]"))
    image = sorted((data / "imagesTr").iterdir())[0]
    told = {}
    for word in ("merged", "none"):
        arguments = ["--model", str(given), "--out", str(tmp_path / word), "--largest", word]
        result = CliRunner().invoke(predict_command, [*arguments, str(image)])
        assert result.exit_code == 0, result.output
        tree = json.loads((tmp_path / word / "predictions.json").read_text())
        told[word] = tree["settings"]["largest"]
    assert told == {"merged": ["merged"], "none": []}
    evaluated = evaluation.resolve_settings(
        load_bundle(given / "model", "cpu"), ["prediction.largest=[]"]
    )
    assert evaluated.prediction.largest == ()


def test_a_model_with_focus_trains(prepared: Path, tmp_path: Path) -> None:
    settings = tiny_settings("training.iterations=1", "model.focus={margin: 2}")
    train.run(prepared, tmp_path / "run", settings)
    assert load_bundle(tmp_path / "run" / "model", "cpu").spec.model.focus.background is True  # type: ignore[union-attr]


def test_samples_are_a_function_of_seed_and_number(prepared: Path) -> None:
    store = PreparedStore.open(prepared)
    ids = [case.id for case in store.cases]
    specs = (ViewSpec((2, 2)), ViewSpec((1, 1), (8, 8), patches=2))
    augment = AugmentSettings(affine_p=0.5, noise_p=0.5, flip_axes=(0,), elastic_p=0.5)
    one, two = (SampleSource(store, ids, specs, augment, 5, 0.7) for _ in range(2))
    for index in (11, 3, 3, 0):
        first, second = one[index], two[index]
        for level in range(2):
            assert torch.equal(first["views"][level].image, second["views"][level].image)
            assert torch.equal(first["views"][level].starts, second["views"][level].starts)
            assert torch.equal(first["targets"][level], second["targets"][level])
    assert sorted(one.case_of(i) for i in range(8)) == sorted(ids)
    assert [one.case_of(i) for i in range(8)] != [one.case_of(i) for i in range(8, 16)]
    assert one[0]["views"][0].image.shape == (1, 1, 8, 8)
    other = SampleSource(store, ids, specs, augment, 6, 0.7)
    assert any(
        not torch.equal(one[i]["views"][0].image, other[i]["views"][0].image) for i in range(4)
    )


def test_predictions_lie_on_the_input_grid(run: Path, data: Path, tmp_path: Path) -> None:
    images = sorted((data / "imagesTr").iterdir())[:2]
    loaded = load_bundle(run / "model", "cpu")
    results = prediction.run(prediction.PredictSegmentation(loaded, images, tmp_path))
    for image, result in zip(images, results, strict=True):
        source, label_map = read_volume(image), read_volume(Path(result.outputs["label_map"]))
        assert label_map.shape == source.shape
        assert np.allclose(label_map.affine, source.affine)
    tree = json.loads((tmp_path / "predictions.json").read_text())
    assert [entry["input"] for entry in tree["predictions"]] == [str(image) for image in images]


def test_a_bad_input_does_not_stop_the_others(run: Path, data: Path, tmp_path: Path) -> None:
    good = sorted((data / "imagesTr").iterdir())[0]
    bad = tmp_path / f"broken{''.join(good.suffixes)}"
    bad.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    with pytest.raises(PartialFailure, match="1 of 2 inputs failed") as caught:
        prediction.run(
            prediction.PredictSegmentation(
                load_bundle(run / "model", "cpu"), [bad, good], tmp_path / "out"
            )
        )
    assert list(caught.value.failures) == ["broken"]
    tree = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert "error" in tree["predictions"][0]
    assert Path(tree["predictions"][1]["outputs"]["label_map"]).exists()


def test_inputs_of_one_name_do_not_overwrite_each_other(
    run: Path, data: Path, tmp_path: Path
) -> None:
    source = sorted((data / "imagesTr").iterdir())[0]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / source.name).write_bytes(source.read_bytes())
    results = prediction.run(
        prediction.PredictSegmentation(
            load_bundle(run / "model", "cpu"), [tmp_path / "a", tmp_path / "b"], tmp_path / "out"
        )
    )
    assert len({result.outputs["label_map"] for result in results}) == 2


def test_an_input_is_never_overwritten(run: Path, data: Path, tmp_path: Path) -> None:
    source = sorted((data / "imagesTr").iterdir())[0]
    image = tmp_path / source.name
    image.write_bytes(source.read_bytes())
    with pytest.raises(OutputError, match="is an input and would be overwritten"):
        prediction.run(
            prediction.PredictSegmentation(load_bundle(run / "model", "cpu"), [image], tmp_path)
        )
    assert image.read_bytes() == source.read_bytes()


def test_channel_files_of_an_image_stay_together() -> None:
    files = [Path(f"a/{name}.nii.gz") for name in ("x_0000", "x_0001", "y_0001", "y_0000", "z")]
    groups = group_channels(files, 2)
    assert [[path.name[:6] for path in group] for group in groups.values()] == [
        ["x_0000", "x_0001"], ["y_0000", "y_0001"], ["z.nii."],
    ]  # fmt: skip
    assert len(group_channels(files, 1)) == 5


def test_a_start_that_failed_does_not_block_the_folder(
    data: Path, prepared: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        train.run(tmp_path / "empty", tmp_path / "run", tiny_settings())
    train.run(prepared, tmp_path / "run", tiny_settings("training.iterations=1"))


def test_resuming_with_another_data_set_is_refused(run: Path, tmp_path: Path) -> None:
    other = write_phantom(tmp_path / "other", cases=8, seed=2, dims=2, size=(24, 20))
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    with pytest.raises(DataError, match="not the one that the run was started with"):
        train.run(other, copy, tiny_settings(), resume=True)


def test_a_bad_case_of_raw_data_does_not_stop_the_training(data: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "data"
    shutil.copytree(data, damaged)
    image = sorted((damaged / "imagesTr").iterdir())[0]
    image.write_bytes(image.read_bytes()[:200])
    train.run(damaged, tmp_path / "run", tiny_settings("training.iterations=1"))
    split = read_split(tmp_path / "run" / "split.json")
    assert len(split.train) + len(split.val) + len(split.test) == 7


def test_nothing_to_predict_is_said(run: Path, tmp_path: Path) -> None:
    plan = load_bundle(run / "model", "cpu").spec.plan
    with pytest.raises(DataError, match="no such file"):
        find_cases([tmp_path / "none.nii.gz"], plan)
    with pytest.raises(DataError, match="holds no image"):
        find_cases([tmp_path], plan)


def test_the_command(run: Path, data: Path, tmp_path: Path) -> None:
    image = sorted((data / "imagesTr").iterdir())[0]
    arguments = ["--model", str(run), "--out", str(tmp_path), "--uncertainty", "3"]
    arguments += ["--probabilities", "--flips", "0,1", "--json", str(image)]
    result = CliRunner().invoke(predict_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    outputs = json.loads(result.stdout)[0]["outputs"]
    assert set(outputs) == {"label_map", "probabilities", "uncertainty"}
    assert all(os.path.getsize(path) for path in outputs.values())
    wrong = CliRunner().invoke(predict_command, [*arguments, "--flips", "2"])
    assert wrong.exit_code == 2
    assert "axes are 0 to 1" in wrong.output
