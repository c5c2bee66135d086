"""Evaluation from files to files, with a model that reads the answer out of the image."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.config.loading import load_settings
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.io.read import read_label
from medseg_nca.pipelines import evaluate as publishing
from medseg_nca.pipelines import preprocess
from medseg_nca.tasks.segmentation import evaluation
from medseg_nca.tracking.store import connect
from tests.pipelines.evaluate.blocks import AFFINE, CASES, anatomy, bundle, data_set, request
from tests.tracking.tiny import new_store


def test_numbers_by_hand(tmp_path: Path, model: LoadedModel) -> None:
    """Blocks of 3 voxels moved by 0 ... 3 along the axis of 2 mm: Dice 1, 2/3, 1/3, 0."""
    out = tmp_path / "out"
    result = evaluation.run(request(model, data_set(tmp_path / "data", CASES), out))
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


def test_files(tmp_path: Path, model: LoadedModel) -> None:
    out = tmp_path / "out"
    data = data_set(tmp_path / "data", CASES)
    (out).mkdir()
    (out / "mine.txt").write_text("stays")
    evaluation.run(request(model, data, out, save_predictions=True, figures=True))
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


def test_the_reader_is_told_of_missed_labels(tmp_path: Path, model: LoadedModel) -> None:
    data = data_set(tmp_path / "data", CASES)
    image = (anatomy() == 1).astype(np.float32)
    nib.save(nib.Nifti1Image(image, AFFINE), data / "imagesTr/c0.nii.gz")
    tree = evaluation.run(request(model, data, tmp_path / "out")).tree
    notes = [note for note in tree["notes"] if note.startswith("back: missed in 1")]
    assert len(notes) == 1
    assert notes[0] in (tmp_path / "out" / "report.html").read_text().replace("&#x27;", "'")


def test_the_run_in_mlflow_gets_the_evaluation(
    tmp_path: Path, model: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    data = data_set(tmp_path / "data", CASES)
    result = evaluation.run(request(model, data, tmp_path / "out"))
    publishing.publish(result, tmp_path)
    places = json.loads((tmp_path / "evaluations.json").read_text())
    assert places == {"all": str(tmp_path / "out")}

    uri = str(new_store(tmp_path / "store").uri)
    client = connect(uri)
    run_id = client.create_run(client.create_experiment("blocks")).info.run_id
    link = tmp_path / "mlflow.json"
    link.write_text(json.dumps({"run_id": run_id, "tracking_uri": f"sqlite:///{tmp_path}/x.db"}))
    publishing.publish(result, tmp_path)
    assert not (tmp_path / "x.db").exists(), "a store that is gone is not made anew"
    assert not client.get_run(run_id).data.metrics
    link.write_text(json.dumps({"run_id": run_id, "tracking_uri": uri}))
    publishing.publish(result, tmp_path)
    metrics = client.get_run(run_id).data.metrics
    assert metrics["all_mean_dice"] == pytest.approx(0.5)
    assert metrics["all_hd95_front"] == pytest.approx(3.0)
    files = {file.path for file in client.list_artifacts(run_id, "evaluation_all")}
    assert "evaluation_all/metrics.json" in files

    caplog.clear()
    (tmp_path / "x.db").write_bytes(b"no database" * 99)
    link.write_text(json.dumps({"run_id": run_id, "tracking_uri": f"sqlite:///{tmp_path}/x.db"}))
    publishing.publish(result, tmp_path)
    assert "is not logged to MLflow" in caplog.text


def test_a_prepared_data_set_stands_for_its_files(tmp_path: Path, model: LoadedModel) -> None:
    """Numbers come from the source grid, not from the prepared arrays."""
    data = data_set(tmp_path / "data", CASES)
    preprocess.run(
        preprocess.PreprocessRequest(data, tmp_path / "prepared", load_settings(None), workers=0)
    )
    raw = evaluation.run(request(model, data, tmp_path / "a")).tree
    prepared = evaluation.run(request(model, tmp_path / "prepared", tmp_path / "b")).tree
    assert prepared["labels"] == raw["labels"]
    assert prepared["data"] == raw["data"]
