"""Evaluation from files to files, with a predictor that reads the answer out of the image."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from medseg_nca.cases.evaluation_inputs import match_labels
from medseg_nca.cli.main import cli
from medseg_nca.config import LabelTable, PreprocessPlan
from medseg_nca.config.loading import load_settings
from medseg_nca.config.model import CellSettings, LevelSettings, NcaModelSettings
from medseg_nca.config.training import EvaluationSettings
from medseg_nca.datasets.splits import Split, write_split
from medseg_nca.errors import DataError, ImageError, OutputError, PartialFailure
from medseg_nca.inference.bundle import LoadedModel, ModelSpec, load_bundle, save_bundle
from medseg_nca.inference.predictor import Prediction, Predictor
from medseg_nca.io.read import read_label
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.models import build_model
from medseg_nca.pipelines import evaluate as publishing
from medseg_nca.pipelines import preprocess
from medseg_nca.tasks.segmentation import evaluation
from medseg_nca.transforms.grid import Grid
from medseg_nca.transforms.likeness import compare

SHAPE = (12, 11, 9)
AFFINE = np.array([[0, -1.5, 0, 3], [2, 0, 0, -1], [0, 0, 3, 7], [0, 0, 0, 1]], dtype=float)
QUICK = EvaluationSettings(bootstrap=20)


def table(values: Mapping[str, int]) -> LabelTable:
    return LabelTable.model_validate(
        {"labels": [{"name": name, "values": [value]} for name, value in values.items()]}
    )


def anatomy(shift: int = 0) -> np.ndarray:
    """Two touching blocks of 3x4x4 voxels."""
    found = np.zeros(SHAPE, dtype=np.uint8)
    found[2 + shift : 5 + shift, 3:7, 2:6] = 1
    found[5 + shift : 8 + shift, 3:7, 2:6] = 2
    return found


def data_set(
    folder: Path, cases: Mapping[str, int], names: Mapping[str, int] | None = None
) -> Path:
    """A Decathlon folder; the image of a case holds its truth, moved by that many voxels."""
    names = {"Front": 1, "Back": 2} if names is None else names
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case, shift in cases.items():
        noise = np.random.default_rng(len(case)).uniform(-0.3, 0.3, SHAPE)
        image = (anatomy(shift) + noise).astype(np.float32)
        nib.save(nib.Nifti1Image(image, AFFINE), folder / f"imagesTr/{case}.nii.gz")
        nib.save(nib.Nifti1Image(anatomy(), AFFINE), folder / f"labelsTr/{case}.nii.gz")
    tree = {
        "name": "blocks <b>", "tensorImageSize": "3D", "modality": {"0": "MRI"},
        "labels": {"0": "background", **{str(v): n for n, v in names.items()}},
        "training": [
            {"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in cases
        ],
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(tree))
    return folder


def bundle(folder: Path, labels: Mapping[str, int] | None = None) -> LoadedModel:
    """A tiny untrained automaton, saved and loaded."""
    settings = NcaModelSettings(
        name="backbone_nca", dims=3, in_channels=1, out_channels=3,
        cell=CellSettings(channels=6), levels=(LevelSettings(steps=2),),
    )  # fmt: skip
    plan = PreprocessPlan(dims=3, channels=("MRI",), crop_size=(8, 8, 8))
    spec = ModelSpec(
        name="tiny", model=settings, labels=table(labels or {"front": 1, "back": 2}), plan=plan
    )
    torch.manual_seed(0)
    save_bundle(folder, build_model(settings), spec)
    return load_bundle(folder, "cpu")


@pytest.fixture(name="model", scope="module")
def model_fixture(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return bundle(tmp_path_factory.mktemp("run") / "model")


class Oracle(Predictor):
    """Rounds the image: its label map is in it."""

    def predict(self, volume: Volume, job: Job | None = None) -> Prediction:
        label_map = np.clip(volume.array.round(), 0, 2).astype(np.uint8)
        likeness = compare(Grid.of(volume), self.spec.plan)
        return Prediction(volume.with_array(label_map), likeness)


@pytest.fixture(name="oracle")
def oracle_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "Predictor", Oracle)
    monkeypatch.setattr(evaluation, "draw", lambda *_: {})  # takes longest; see test_files


CASES = {"c0": 0, "c1": 1, "c2": 2, "c3": 3}


@pytest.mark.usefixtures("oracle")
def test_numbers_by_hand(tmp_path: Path, model: LoadedModel) -> None:
    """Blocks of 3 voxels moved by 0 ... 3 along the axis of 2 mm: Dice 1, 2/3, 1/3, 0."""
    out = tmp_path / "out"
    result = evaluation.run(
        evaluation.EvaluateSegmentation(
            model, data_set(tmp_path / "data", CASES), out, settings=QUICK
        )
    )
    tree = json.loads((out / "metrics.json").read_text())
    assert tree == json.loads(json.dumps(result.tree))
    front = [case["labels"]["front"] for case in tree["cases"]]
    assert [v["dice"] for v in front] == pytest.approx([1, 2 / 3, 1 / 3, 0], abs=1e-6)
    assert [v["hd"] for v in front] == pytest.approx([0, 2, 4, 6])
    assert tree["mean_dice"] == pytest.approx(0.5)
    # Merged, the blocks are 6 voxels long: 1, 5/6, 4/6, 3/6.
    assert tree["merged"]["dice"]["mean"] == pytest.approx(0.75)
    assert front[0]["truth_volume"] == pytest.approx(48 * 9 / 1000)
    assert tree["split"]["name"] == "all"
    assert "never split" in tree["split"]["reason"]
    assert not result.failed


def test_files(tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "Predictor", Oracle)
    out = tmp_path / "out"
    data = data_set(tmp_path / "data", CASES)
    (out).mkdir()
    (out / "mine.txt").write_text("stays")
    evaluation.run(
        evaluation.EvaluateSegmentation(model, data, out, settings=QUICK, save_predictions=True)
    )
    assert {p.name for p in out.iterdir()} == {
        "figures", "metrics.csv", "metrics.json", "mine.txt", "predictions", "report.html",
    }  # fmt: skip
    assert {p.name for p in (out / "figures").iterdir()} == {
        "best.png", "boxes.png", "median.png", "worst.png",
    }  # fmt: skip
    with (out / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 * 3
    assert rows[3]["case"] == "c1"
    assert float(rows[3]["dice"]) == pytest.approx(2 / 3)
    predicted = read_label(out / "predictions" / "c2.nii.gz")
    assert (predicted.array[0] == anatomy(2)).all()
    assert predicted.affine == pytest.approx(AFFINE)
    report = (out / "report.html").read_text()
    assert "blocks &lt;b&gt;" in report
    assert report.count("data:image/png;base64,") == 4
    assert evaluation.open_source(data).hash in report


@pytest.mark.usefixtures("oracle")
@pytest.mark.parametrize(
    ("side", "expected"),
    [("test", ["c3"]), ("val", ["c2"]), ("train", ["c0", "c1"]), ("all", list(CASES))],
)
def test_the_split_of_the_run_is_used(tmp_path: Path, side: str, expected: list[str]) -> None:
    data = data_set(tmp_path / "data", CASES)
    model = bundle(tmp_path / "run" / "model")
    split = Split(train=("c0", "c1"), val=("c2",), test=("c3",))
    write_split(split, tmp_path / "run" / "split.json")
    tree = evaluation.run(
        evaluation.EvaluateSegmentation(model, data, tmp_path / "out", split=side, settings=QUICK)
    ).tree
    assert [case["id"] for case in tree["cases"]] == expected
    assert tree["split"]["name"] == side


@pytest.mark.usefixtures("oracle")
def test_a_changed_data_set_does_not_let_training_cases_in(tmp_path: Path) -> None:
    data = data_set(tmp_path / "data", {**CASES, "new": 0})
    model = bundle(tmp_path / "run" / "model")
    split = Split(train=("c0", "c1"), val=("c2",), test=("c3", "gone"), dataset_hash="before")
    write_split(split, tmp_path / "run" / "split.json")
    tree = evaluation.run(
        evaluation.EvaluateSegmentation(model, data, tmp_path / "out", settings=QUICK)
    ).tree
    assert [case["id"] for case in tree["cases"]] == ["c3"]
    assert len(tree["notes"]) == 4
    assert "does not say what the images" in tree["notes"][-1]
    other = data_set(tmp_path / "other", {"x": 0, "y": 1})
    tree = evaluation.run(
        evaluation.EvaluateSegmentation(model, other, tmp_path / "out", settings=QUICK)
    ).tree
    assert [case["id"] for case in tree["cases"]] == ["x", "y"]
    trained = data_set(tmp_path / "trained", {"c0": 0, "c1": 1})
    with pytest.raises(DataError, match="--split all"):
        evaluation.run(
            evaluation.EvaluateSegmentation(model, trained, tmp_path / "out", settings=QUICK)
        )


@pytest.mark.usefixtures("oracle")
def test_the_reader_is_warned_of_training_data_without_a_split(tmp_path: Path) -> None:
    data = data_set(tmp_path / "data", CASES)
    model = bundle(tmp_path / "model")
    spec = model.spec.model_copy(update={"training_data_hash": evaluation.open_source(data).hash})
    told = LoadedModel(model.model, spec, model.folder, model.device)
    tree = evaluation.run(
        evaluation.EvaluateSegmentation(told, data, tmp_path / "out", settings=QUICK)
    ).tree
    assert "trained on this very data set" in tree["notes"][0]


@pytest.mark.usefixtures("oracle")
def test_a_case_that_fails_is_named_and_the_others_go_on(
    tmp_path: Path, model: LoadedModel
) -> None:
    data = data_set(tmp_path / "data", CASES)
    (data / "imagesTr/c1.nii.gz").write_bytes(b"not a volume")
    wrong = nib.Nifti1Image(anatomy()[:-1], AFFINE)
    nib.save(wrong, data / "labelsTr/c2.nii.gz")
    result = evaluation.run(
        evaluation.EvaluateSegmentation(model, data, tmp_path / "out", settings=QUICK)
    )
    assert set(result.failed) == {"c1", "c2"}
    assert [case["id"] for case in result.tree["cases"]] == ["c0", "c3"]
    assert [failure["id"] for failure in result.tree["failed"]] == ["c1", "c2"]
    assert "c1 failed" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(PartialFailure, match=r"2 of 4 cases failed; .*metrics\.json") as caught:
        result.raise_for_failures()
    assert caught.value.failures == result.failed


def broken(case: str, data: Path) -> None:
    label = data / "labelsTr/c0.nii.gz"
    if case == "value":
        nib.save(nib.Nifti1Image(anatomy() * 3, AFFINE), label)
    elif case == "affine":
        nib.save(nib.Nifti1Image(anatomy(), np.diag([1, 1, 1, 1.0])), label)
    elif case == "truncated":
        label.write_bytes(label.read_bytes()[:-20])
    elif case == "nan":
        image = np.full(SHAPE, np.nan, dtype=np.float32)
        nib.save(nib.Nifti1Image(image, AFFINE), data / "imagesTr/c0.nii.gz")


@pytest.mark.usefixtures("oracle")
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("value", r"c0\.nii\.gz: has label values outside the table: 3 \(\d+ voxels\), 6"),
        ("affine", r"c0\.nii\.gz: is not on the grid of its image"),
        ("truncated", r"c0\.nii\.gz"),
        ("nan", r"c0\.nii\.gz: .* NaN"),
    ],
)
def test_bad_files_are_named(
    tmp_path: Path,
    model: LoadedModel,
    caplog: pytest.LogCaptureFixture,
    case: str,
    message: str,
) -> None:
    data = data_set(tmp_path / "data", {"c0": 0})
    broken(case, data)
    with pytest.raises(DataError, match="all 1 cases failed"):
        evaluation.run(
            evaluation.EvaluateSegmentation(model, data, tmp_path / "out", settings=QUICK)
        )
    assert re.search(message, caplog.text)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("oracle")
def test_an_unwritable_folder_is_named(tmp_path: Path, model: LoadedModel) -> None:
    data = data_set(tmp_path / "data", {"c0": 0})
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="out"):
        evaluation.run(
            evaluation.EvaluateSegmentation(model, data, tmp_path / "out", settings=QUICK)
        )


def test_labels_are_matched_by_name_whatever_its_case() -> None:
    model = table({"left lung": 1, "Heart": 2})
    match = match_labels(model, table({"HEART": 7, "Left_Lung": 9, "spleen": 3}))
    assert [label.values for label in match.truth.labels] == [(9,), (7,)]
    assert match.known_values == {0, 3, 7, 9}
    assert len(match.notes) == 1
    assert "spleen" in match.notes[0]


def test_labels_are_matched_by_number_when_no_name_agrees() -> None:
    model = table({"front": 1, "back": 2})
    match = match_labels(model, table({"label_2": 2, "label_1": 1}))
    assert match.truth.names == ("label_1", "label_2")
    assert "by number" in match.notes[0]
    assert match_labels(model, None).truth == model


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"no label for 'back'.*front \(1\), side \(2\)"):
        match_labels(table({"front": 1, "back": 2}), table({"front": 1, "side": 2}))
    with pytest.raises(DataError, match="no label for 'front'"):
        match_labels(table({"front": 1}), table({"left": 5}))


def test_a_real_model_and_the_command(tmp_path: Path) -> None:
    """An untrained automaton through the true predictor, in one run folder."""
    data = data_set(tmp_path / "data", {"c0": 0, "c1": 1})
    bundle(tmp_path / "run" / "model")
    out = tmp_path / "out"
    done = CliRunner().invoke(
        cli,
        ["-q", "evaluate", "--model", str(tmp_path / "run" / "model"), "--data", str(data),
         "--out", str(out), "--set", "evaluation.bootstrap=10",
         "--set", "evaluation.nsd_tolerance=2.5", "--device", "cpu", "--json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    tree: dict[str, Any] = json.loads(done.stdout)
    assert tree["out"] == str(out)
    assert tree["tolerance_mm"] == 2.5
    assert 0 <= tree["mean_dice"] <= 1
    assert all(case["seconds"] > 0 for case in tree["cases"])
    assert (out / "report.html").is_file()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--set", "evaluation.nsd_tolerence=2"], "did you mean 'nsd_tolerance'"),
        (["--data", "nowhere"], "nowhere"),
        (["--model", "nowhere"], "nowhere"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, extra: list[str], message: str) -> None:
    data = data_set(tmp_path / "data", {"c0": 0})
    bundle(tmp_path / "model")
    options = [
        "--model",
        str(tmp_path / "model"),
        "--data",
        str(data),
        "--out",
        str(tmp_path / "o"),
    ]
    done = CliRunner().invoke(cli, ["evaluate", *options, *extra])
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert not (tmp_path / "o").exists()


@pytest.mark.usefixtures("oracle")
def test_the_reader_is_told_of_missed_labels(tmp_path: Path, model: LoadedModel) -> None:
    data = data_set(tmp_path / "data", CASES)
    image = (anatomy() == 1).astype(np.float32)
    nib.save(nib.Nifti1Image(image, AFFINE), data / "imagesTr/c0.nii.gz")
    tree = evaluation.run(
        evaluation.EvaluateSegmentation(model, data, tmp_path / "out", settings=QUICK)
    ).tree
    notes = [note for note in tree["notes"] if note.startswith("back: missed in 1")]
    assert len(notes) == 1
    assert notes[0] in (tmp_path / "out" / "report.html").read_text().replace("&#x27;", "'")


class Store:
    """Notes what an MLflow client is asked to log."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.files: list[str] = []

    def log_batch(self, run_id: str, metrics: Any) -> None:
        assert run_id == "7"
        self.metrics |= {metric.key: metric.value for metric in metrics}

    def log_artifact(self, run_id: str, path: str, place: str) -> None:
        self.files.append(f"{place}/{Path(path).name}")

    def log_artifacts(self, run_id: str, path: str, place: str) -> None:
        self.files.append(place)


@pytest.mark.usefixtures("oracle")
def test_the_run_in_mlflow_gets_the_evaluation(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_set(tmp_path / "data", CASES)
    result = evaluation.run(
        evaluation.EvaluateSegmentation(model, data, tmp_path / "out", settings=QUICK)
    )
    store = Store()
    monkeypatch.setattr(publishing, "connect", lambda uri: store)
    publishing.publish(result, tmp_path)
    assert not store.metrics
    places = json.loads((tmp_path / "evaluations.json").read_text())
    assert places == {"all": str(tmp_path / "out")}
    link = {"run_id": "7", "tracking_uri": f"sqlite:///{tmp_path}/x.db"}
    (tmp_path / "mlflow.json").write_text(json.dumps(link))
    publishing.publish(result, tmp_path)
    assert not store.metrics, "a store that is gone is not made anew"
    (tmp_path / "x.db").touch()
    publishing.publish(result, tmp_path)
    assert store.metrics["all_mean_dice"] == pytest.approx(0.5)
    assert store.metrics["all_hd95_front"] == pytest.approx(3.0)
    assert "evaluation_all/metrics.json" in store.files

    def refuse(uri: str) -> None:
        raise OSError("no answer")

    monkeypatch.setattr(publishing, "connect", refuse)
    publishing.publish(result, tmp_path)


@pytest.mark.usefixtures("oracle")
def test_a_prepared_data_set_stands_for_its_files(tmp_path: Path, model: LoadedModel) -> None:
    """Numbers come from the source grid, not from the prepared arrays."""
    data = data_set(tmp_path / "data", CASES)
    preprocess.run(
        preprocess.PreprocessRequest(data, tmp_path / "prepared", load_settings(None), workers=0)
    )
    raw = evaluation.run(
        evaluation.EvaluateSegmentation(model, data, tmp_path / "a", settings=QUICK)
    ).tree
    prepared = evaluation.run(
        evaluation.EvaluateSegmentation(
            model, tmp_path / "prepared", tmp_path / "b", settings=QUICK
        )
    ).tree
    assert prepared["labels"] == raw["labels"]
    assert prepared["data"] == raw["data"]


def test_a_case_without_label_is_refused(tmp_path: Path) -> None:
    from medseg_nca.cases.evaluate_case import read_case
    from medseg_nca.datasets.base import Case

    with pytest.raises(ImageError, match="x"):
        read_case(Case("x", (tmp_path / "x.nii.gz",)), match_labels(table({"a": 1}), None))
