"""Train, evaluate, predict, compare, register: a small data set through every stage."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg_nca.config.data import SplitSettings
from medseg_nca.datasets.redraw import SEEN, kept_of
from medseg_nca.datasets.splits import Split, read_split
from medseg_nca.dynamics import SubjectRequest, metric_against_steps, settle
from medseg_nca.errors import (
    ConfigError,
    DataError,
    ImageError,
    Interrupted,
    ModelError,
    PartialFailure,
)
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.job import Job
from medseg_nca.pipelines import compare, train
from medseg_nca.tasks import TASKS
from medseg_nca.tasks.base import EvaluateRequest, PredictRequest
from tests.tasks.classification.shapes import CLASSES, halves, settings_of

TASK = TASKS.get("classification")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    result = train.run(data, out, settings_of())
    assert result.training.best_score == 1.0
    return out


@pytest.fixture(scope="module")
def model(run: Path) -> TaskModel:
    return TASK.load(run / "model", "cpu")


def test_a_run_leaves_split_model_and_votes(run: Path, model: TaskModel) -> None:
    split = read_split(run / "split.json")
    assert [len(split.side(side)) for side in ("train", "val", "test")] == [26, 6, 8]
    assert (run / "figures" / "votes.gif").is_file()
    assert model.spec.metrics["balanced_accuracy"] == 1.0
    assert TASK.tags(model)["classes"] == "left, right"
    assert TASK.tags(model)["image"] == "1 x 6 x 6"


def test_the_evaluation_of_the_test_side(
    model: TaskModel, data: Path, run: Path, tmp_path: Path
) -> None:
    found = TASK.evaluate(EvaluateRequest(model, data, tmp_path), Job())
    tree = json.loads((tmp_path / "metrics.json").read_text())
    assert tree["split"]["name"] == "test"
    assert [case["id"] for case in tree["cases"]] == list(read_split(run / "split.json").test)
    assert tree["accuracy"] == tree["balanced_accuracy"] == tree["score"]["value"] == 1.0
    case = tree["cases"][0]
    assert sum(case["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert case["probability"] == max(case["probabilities"].values())
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert len(rows) == 8
    assert rows[0]["truth"] == case["truth"]
    text = (tmp_path / "report.html").read_text()
    assert "Calibration" in text
    assert {p.name for p in (tmp_path / "figures").iterdir()} >= {
        "confusion.png", "reliability.png", "votes.gif"
    }  # fmt: skip
    table = TASK.table(found.tree)
    assert [row[0] for row in table.rows] == list(CLASSES)
    assert "accuracy 1.000" in table.summary
    assert TASK.published(tree)["sensitivity_left"] == 1.0
    found.raise_for_failures()


def test_the_engine_of_the_run_is_used_and_recorded(data: Path, run: Path, tmp_path: Path) -> None:
    chances = {}
    for name in ("cpu", "reference"):
        model = TASK.load(run / "model", "cpu", name)
        found = TASK.predict(PredictRequest(model, [data], tmp_path / name), Job())
        chances[name] = [[*one.probabilities.values()] for one in found]
        tree = json.loads((tmp_path / name / "predictions.json").read_text())
        assert tree["settings"]["engine"] == name
    np.testing.assert_allclose(chances["cpu"], chances["reference"], atol=1e-4)
    TASK.evaluate(EvaluateRequest(model, data, tmp_path), Job())
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["settings"]["engine"] == "reference"
    assert "prediction" in metrics["settings"]


def test_two_evaluations_are_compared(model: TaskModel, data: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        TASK.evaluate(EvaluateRequest(model, data, tmp_path / name), Job())
    tree = compare.run(tmp_path / "a", tmp_path / "b", metric="log_loss")
    assert tree["cases"] == 8
    assert tree["labels"]["all"]["difference"] == 0
    assert set(tree["labels"]) == {*CLASSES, "all"}


def test_a_model_without_its_run_finds_the_split_again(
    model: TaskModel, data: Path, run: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "elsewhere" / "model"
    alone.mkdir(parents=True)
    for name in ("model.json", "weights.safetensors"):
        (alone / name).write_bytes((run / "model" / name).read_bytes())
    found = TASK.evaluate(EvaluateRequest(TASK.load(alone, "cpu"), data, tmp_path / "e"), Job())
    split = read_split(run / "split.json")
    assert [case["id"] for case in found.tree["cases"]] == list(split.test)
    # Where a file named the sides, the model holds their ids; where nothing is known, it is said.
    tree = json.loads((alone / "model.json").read_text())
    listed = split.changed(test=split.test[:2], train=(*split.train, *split.test[2:]))
    for known, tested, words in (
        (listed.model_dump(mode="json"), 2, "The test images of the run's split."),
        (
            None,
            40,
            "It is not known how the run split this data set: all its images are evaluated.",
        ),
    ):
        tree["facts"] |= {"split": None, "listed": known}
        (alone / "model.json").write_text(json.dumps(tree))
        request = EvaluateRequest(TASK.load(alone, "cpu"), data, tmp_path / "f")
        about = TASK.evaluate(request, Job()).tree
        assert (len(about["cases"]), about["split"]["reason"]) == (tested, words)
    assert SEEN in about["notes"]


def test_a_split_of_a_file_is_kept_by_its_ids() -> None:
    split = Split(train=("a", "b"), test=("c",), dataset_hash="x")
    assert kept_of(SplitSettings(file=Path("s.json")), split) == {"split": None, "listed": split}
    assert kept_of(SplitSettings(seed=3), split) == {"split": SplitSettings(seed=3), "listed": None}
    many = Split(train=tuple(f"{n:0100d}" for n in range(3000)))
    assert kept_of(SplitSettings(file=Path("s.json")), many)["listed"] is None


def test_other_data_are_taken_whole_and_noted(model: TaskModel, tmp_path: Path) -> None:
    labels = np.arange(12) % 2
    np.savez(tmp_path / "o.npz", images=halves(12, (9, 7), seed=5), labels=labels)
    wanted = EvaluateRequest(model, tmp_path / "o.npz", tmp_path / "e")
    tree = TASK.evaluate(wanted, Job()).tree
    assert len(tree["cases"]) == 12
    assert (
        tree["split"]["reason"]
        == "The run never split this data set: all its images are evaluated."
    )
    assert tree["notes"] == ["The model was trained on another data set."]


def test_predictions_of_folders_files_and_arrays(model: TaskModel, tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    inputs.mkdir()
    for place, image in enumerate(halves(2, seed=9)):
        Image.fromarray(image).save(inputs / f"{CLASSES[place]}.png")
    (inputs / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    np.savez(tmp_path / "a.npz", images=halves(2, seed=8), labels=np.zeros(2))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:99])
    request = PredictRequest(
        model,
        [inputs, tmp_path / "cut.npz", tmp_path / "a.npz"],
        tmp_path / "out",
        overrides=("options.votes=true",),
    )
    with pytest.raises(PartialFailure, match="2 of 6 inputs failed") as error:
        TASK.predict(request, Job())
    broken = {str(inputs / "broken.png"), str(tmp_path / "cut.npz")}
    assert set(error.value.failures) == broken
    tree = json.loads((tmp_path / "out" / "predictions.json").read_text())
    said = {Path(row["id"]).name: row["class"] for row in tree["predictions"]}
    assert said == {
        "left.png": "left", "right.png": "right", "a.npz:images:0": "left",
        "a.npz:images:1": "right",
    }  # fmt: skip
    assert {row["id"] for row in tree["failed"]} == broken
    rows = list(csv.reader((tmp_path / "out" / "predictions.csv").read_text().splitlines()))
    assert rows[0] == ["image", "class", "probability", "p_left", "p_right"]
    assert len(rows) == 5
    assert len(list((tmp_path / "out" / "votes").glob("*.gif"))) == 4


def test_arrays_are_answered_with_probabilities(model: TaskModel) -> None:
    images = halves(6, (8, 10), seed=3).swapaxes(1, 2)[:, None]
    chances = TASK.answer(model, images)
    assert chances.shape == (6, 2)
    assert chances.argmax(1).tolist() == [0, 1] * 3
    assert TASK.answer(model, images[:0]).shape == (0, 2)
    with pytest.raises(ImageError, match=r"images are numbers of the shape \(B, 1, and 2 axes\)"):
        TASK.answer(model, images[0])
    with pytest.raises(ImageError, match="2 channels; 1 are needed"):
        TASK.answer(model, np.zeros((1, 2, 6, 6)))
    with pytest.raises(ImageError, match="NaN"):
        TASK.answer(model, np.full((1, 1, 6, 6), np.nan))


def test_a_stored_answer_recognises_the_model(model: TaskModel, run: Path) -> None:
    with pytest.raises(ModelError, match="holds no stored answer"):
        TASK.check_reference(model)
    stored = TaskModel(
        model.module, model.spec.changed(reference=TASK.make_reference(model)), run, model.device
    )
    assert TASK.check_reference(stored).identical
    other = TASK.load(run / "model", "cpu")
    for parameter in other.module.parameters():
        parameter.data.mul_(-1)
    changed = TaskModel(other.module, stored.spec, run, other.device)
    assert not TASK.check_reference(changed).passed


def test_a_cancelled_job_leaves_no_results(model: TaskModel, data: Path, tmp_path: Path) -> None:
    job = Job()
    job.cancel()
    with pytest.raises(Interrupted):
        TASK.evaluate(EvaluateRequest(model, data, tmp_path / "e"), job)
    with pytest.raises(Interrupted):
        TASK.predict(PredictRequest(model, [data], tmp_path / "p"), job)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_predicted_is_told(model: TaskModel, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to predict"):
        TASK.predict(PredictRequest(model, [], tmp_path), Job())
    with pytest.raises(DataError, match="no such file or folder"):
        TASK.predict(PredictRequest(model, [tmp_path / "none.png"], tmp_path), Job())
    with pytest.raises(ConfigError, match="no format 'nifti'"):
        TASK.predict(PredictRequest(model, [data], tmp_path, ("nifti",)), Job())
    options = {"flips": (0,)}
    with pytest.raises(ConfigError, match=r"--flips: is no option of the task classification"):
        TASK.predict(PredictRequest(model, [data], tmp_path, options=options), Job())
    for seed in (-1, 2**63):
        with pytest.raises(ConfigError, match="seed"):
            TASK.predict(PredictRequest(model, [data], tmp_path, options={"seed": seed}), Job())
    with pytest.raises(DataError, match="Unknown split 'tests'"):
        TASK.evaluate(EvaluateRequest(model, data, tmp_path, "tests"), Job())


def test_classes_that_the_model_does_not_know_are_refused(model: TaskModel, tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", images=halves(6), labels=np.arange(6) % 3)
    with pytest.raises(DataError, match="has the class '0', which the model does not know"):
        TASK.evaluate(EvaluateRequest(model, tmp_path / "o.npz", tmp_path / "e"), Job())


def test_numbers_of_classes_mean_what_they_meant_in_the_training(tmp_path: Path) -> None:
    """Names that are numbers too, the other way round; and data without one of three classes."""
    images, labels = halves(36), np.arange(36) % 3
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    two = labels != 1
    np.savez(tmp_path / "b.npz", images=images[two], labels=labels[two])
    short = settings_of("training.iterations=1", "options.class_names=['2', '1', '0']")
    train.run(tmp_path / "a.npz", tmp_path / "run", short)
    model = TASK.load(tmp_path / "run" / "model", "cpu")
    for name, own in (("a", "012"), ("b", "02")):
        request = EvaluateRequest(model, tmp_path / f"{name}.npz", tmp_path / name, "all")
        cases = TASK.evaluate(request, Job()).tree["cases"]
        meant = dict(zip("012", "210", strict=True))
        expected = [meant[own[k % len(own)]] for k in range(len(cases))]
        assert [case["truth"] for case in cases] == expected


def test_a_model_of_another_task_is_refused(run: Path, tmp_path: Path) -> None:
    tree = json.loads((run / "model" / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**tree, "task": "growing"}))
    with pytest.raises(ModelError, match="is a model of the task growing"):
        TASK.read(tmp_path)


@pytest.mark.parametrize("part", ["facts", "options"])
def test_a_damaged_description_is_refused_by_name(run: Path, tmp_path: Path, part: str) -> None:
    tree = json.loads((run / "model" / "model.json").read_text())
    tree[part]["size"] = [10**9, 10**9]
    (tmp_path / "model.json").write_text(json.dumps(tree))
    weights = (run / "model" / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(weights)
    with pytest.raises(ModelError, match=f"{part}: .*size must be"):
        TASK.load(tmp_path, "cpu")


@pytest.mark.parametrize("temperature", [1e-3, 60, 1e308])
def test_a_temperature_that_no_calibration_finds_is_refused(
    run: Path, tmp_path: Path, temperature: float
) -> None:
    tree = json.loads((run / "model" / "model.json").read_text())
    tree["facts"]["temperature"] = temperature
    (tmp_path / "model.json").write_text(json.dumps(tree))
    weights = (run / "model" / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(weights)
    with pytest.raises(ModelError, match="temperature"):
        TASK.load(tmp_path, "cpu")


def test_a_rare_class_is_drawn_as_often(tmp_path: Path) -> None:
    from medseg_nca.tasks.base import Start
    from medseg_nca.tasks.classification.begin import begin_training

    path = tmp_path / "r.npz"
    labels = (np.arange(40) % 10 == 0).astype(int)
    np.savez(path, images=halves(40), labels=labels)
    import torch

    settings = settings_of("options.balance=sampling", "augment.enabled=false")
    settings = settings.changed(data=settings.data.changed(split=SplitSettings(val=0, test=0)))
    options = TASK.options(settings)
    start = Start(path, tmp_path / "run", settings, torch.device("cpu"))
    learner, _, _ = begin_training(start, settings, options, Job())
    drawn = [learner.sample(index)["truth"] for index in range(80)]
    assert sum(drawn) == 40
    places = [learner.place_of(index) for index in range(80)]
    assert set(places) == set(range(40))


def test_a_model_that_is_always_right_is_not_left_unsure(model: TaskModel, data: Path) -> None:
    """Halves are told apart in some steps, with logits near 0, which the temperature sharpens."""
    assert model.spec.facts["temperature"] < 0.5


def test_small_numbers_are_no_zeros(tmp_path: Path) -> None:
    images = halves(12).astype(np.float64) * 1e-9
    np.savez(tmp_path / "s.npz", images=images, labels=np.arange(12) % 2)
    train.run(tmp_path / "s.npz", tmp_path / "run", settings_of("training.iterations=1"))
    facts = TASK.load(tmp_path / "run" / "model", "cpu").spec.facts
    assert facts["mean"][0] == pytest.approx(images.mean(), rel=0.5)
    assert facts["sd"][0] == pytest.approx(images.std(), rel=0.5)


def test_all_images_are_one_case_of_the_probes(model: TaskModel, data: Path) -> None:
    subject = TASK.subject(SubjectRequest(model, data, cases=6))
    assert (subject.cases, subject.steps) == (("images",), (5,))
    assert "no place in the image" in subject.missing["images"]
    case = subject.open("images")
    answer = case.answer()
    assert answer.shape == (6, 2)
    assert case.score(answer) == {"balanced accuracy": 1.0, "accuracy": 1.0}
    start = case.start(0)
    assert np.array_equal(case.read(start.go(start.steps)), answer)
    # Two images of six have another class.
    swapped = answer.copy()
    swapped[:2] = swapped[:2, ::-1]
    assert case.agreement(answer, swapped) == {"same class": pytest.approx(4 / 6)}
    curve = metric_against_steps(subject, (1, 2))
    assert curve.means()[1]["accuracy"] == 1.0
    assert len(settle(start, 32).verdicts) == 6
    assert not np.array_equal(case.answer(seed=1), case.answer(seed=2))
