"""``evaluate --trust`` from files to files."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ConfigError, DataError, ImageError, Interrupted
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.predictor import Prediction, Predictor
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job, Progress
from medseg_nca.tasks import TASKS
from medseg_nca.tasks.segmentation.trust_study import run_study
from medseg_nca.trust.corruptions import CORRUPTIONS
from medseg_nca.trust.estimate import Estimate, LabelEstimate
from tests.inference.test_predictor import bundle_of
from tests.pipelines.evaluate.blocks import CASES, SHAPE, data_set, request

FAULTS = len(CORRUPTIONS.names)


class Estimating(Predictor):
    """Says that a clean image, whose values lie in steps, is good; and refuses another shape."""

    def predict(self, volume: Volume, job: Job | None = None) -> Prediction:
        if volume.shape != SHAPE:
            raise ImageError("The image has another shape.")
        prediction = super().predict(volume, job)
        front = float(np.mean(prediction.label_map.array == 1))
        labels = {
            "front": LabelEstimate(min(1.0, 12 * front), 0.0, 1.0, "accept"),
            "back": LabelEstimate(0.5, 0.45, 0.55, "reject"),
        }
        estimate = Estimate("reject", ("The back is poor.",), labels, 0.9)
        return replace(prediction, estimate=estimate)


@dataclass
class Listened:
    phases: dict[str, list[tuple[int, int | None]]]

    def __call__(self, progress: Progress) -> None:
        self.phases.setdefault(progress.phase, []).append((progress.done, progress.total))


def test_a_study_of_a_model_that_estimates(tmp_path: Path, model: LoadedModel) -> None:
    data, out = data_set(tmp_path / "data", {"c0": 0, "c1": 1}), tmp_path / "out"
    wanted = request(model, data, out, figures=True)
    heard = Listened({})
    tree = run_study(wanted, job=Job(heard), predictor=Estimating(model))
    assert json.loads((out / "trust.json").read_text()) == json.loads(json.dumps(tree))
    assert {p.name for p in out.iterdir()} == {"figures", "trust.csv", "trust.html", "trust.json"}
    assert {p.name for p in (out / "figures").iterdir()} == {
        "trust_risk.png", "trust_estimates.png",
    }  # fmt: skip
    with (out / "trust.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    clean = [row for row in rows if row["corruption"] == "clean"]
    assert [(r["case"], r["strength"], r["label"]) for r in clean] == [
        ("c0", "0", "front"), ("c0", "0", "back"), ("c1", "0", "front"), ("c1", "0", "back"),
    ]  # fmt: skip
    # The image of c1 holds its truth moved by one voxel of three.
    assert [float(r["dice"]) for r in clean] == pytest.approx([1, 1, 2 / 3, 2 / 3], abs=1e-6)
    assert {(r["verdict"], r["image_verdict"]) for r in clean} == {
        ("accept", "reject"), ("reject", "reject"),
    }  # fmt: skip
    # The model has no fire mask: its passes are all the same.
    assert {r["nqm"] for r in rows} == {r["pairwise_dice"] for r in rows} == {""}
    assert tree["passes"] == 0
    assert tree["confidence"] == 0.9
    assert tree["notes"] == []
    cut = [image for image in tree["refused"] if image["corruption"] == "field_of_view"]
    assert len(cut) == 2 * 3
    assert tree["faults"]["field_of_view"]["refused"] == 6
    report = (out / "trust.html").read_text()
    assert "blocks &lt;b&gt;" in report
    assert report.count("data:image/png;base64,") == 2
    assert "The image has another shape." in report
    assert heard.phases["measuring trust"] == [(0, 2), (1, 2), (2, 2)]
    assert set(heard.phases) == {"measuring trust", "this case"}
    images = 1 + 3 * FAULTS
    assert heard.phases["this case"] == [(k, images) for k in range(images + 1)] * 2


def test_the_same_study_again_is_the_same(tmp_path: Path, model: LoadedModel) -> None:
    data = data_set(tmp_path / "data", {"c0": 0, "c1": 1})
    for name in "ab":
        run_study(request(model, data, tmp_path / name), 1)
    assert (tmp_path / "a/trust.csv").read_bytes() == (tmp_path / "b/trust.csv").read_bytes()


def test_a_model_with_a_fire_mask_has_all_baselines(tmp_path: Path) -> None:
    model = bundle_of(tmp_path / "model")
    data = data_set(tmp_path / "data", {"c0": 0}, {"a": 1, "b": 2})
    tree = run_study(request(model, data, tmp_path / "out"))
    assert tree["passes"] == 8
    found = tree["scores"]["all"]
    assert {name for name, score in found.items() if score["spearman"] is not None} == {
        "nqm", "pairwise_dice", "entropy",
    }  # fmt: skip
    assert found["nqm"]["n"] == found["pairwise_dice"]["n"] == found["entropy"]["n"] > FAULTS
    assert 0 <= found["pairwise_dice"]["mae"] <= 1


def test_the_command(tmp_path: Path, model: LoadedModel) -> None:
    data, out = data_set(tmp_path / "data", CASES), tmp_path / "out"
    words = ["-q", "evaluate", "--model", str(model.folder), "--data", str(data), "--out", str(out),
             "--device", "cpu", "--set", "evaluation.bootstrap=10"]  # fmt: skip
    done = CliRunner().invoke(cli, [*words, "--trust", "--trust-cases", "2", "--json"])
    assert done.exit_code == 0, done.output
    tree = json.loads(done.stdout)
    assert len(tree["cases"]) == 4
    assert tree["trust"]["cases"] == ["c0", "c1"]
    assert "trust" not in json.loads((out / "metrics.json").read_text())
    done = CliRunner().invoke(cli, [*words, "--trust", "--trust-cases", "1"])
    assert done.exit_code == 0, done.output
    assert "How well each score knows the Dice" in done.stdout
    assert "carries no trust section" in done.stdout
    assert "medseg-nca trust --model MODEL --data DIR" in done.stdout
    assert f"Report: {out / 'trust.html'}" in done.stdout
    done = CliRunner().invoke(cli, [*words, "--trust-cases", "1"])
    assert done.exit_code == 2
    assert "--trust-cases needs --trust" in done.stderr


@pytest.mark.parametrize("task", ["classification", "generation", "regression"])
def test_other_tasks_refuse_it(task: str) -> None:
    other = TASKS.get(task)
    with pytest.raises(ConfigError, match=f"--trust: is no option of the task {task}"):
        other.check_options({"trust": True}, other.evaluate_options)


def test_a_case_that_cannot_be_read_is_named(tmp_path: Path, model: LoadedModel) -> None:
    data = data_set(tmp_path / "data", {"c0": 0, "c1": 1})
    (data / "labelsTr/c0.nii.gz").write_bytes(b"no image")
    tree = run_study(request(model, data, tmp_path / "out"))
    assert tree["cases"] == ["c1"]
    assert [case["id"] for case in tree["failed"]] == ["c0"]
    assert "c0 failed" in (tmp_path / "out/trust.html").read_text()


def test_a_study_without_masks_is_refused(tmp_path: Path, model: LoadedModel) -> None:
    data = data_set(tmp_path / "data", {"c0": 0})
    refusing = request(
        model, data, tmp_path / "out", prediction=PredictionSettings(unlike="refuse")
    )
    with pytest.raises(DataError, match="found no mask in 1 cases"):
        run_study(refusing)
    assert not (tmp_path / "out").exists()


def test_a_study_can_be_stopped(tmp_path: Path, model: LoadedModel) -> None:
    data = data_set(tmp_path / "data", {"c0": 0})
    job = Job(lambda progress: job.cancel() if progress.done == 2 else None)
    with pytest.raises(Interrupted):
        run_study(request(model, data, tmp_path / "out"), job=job)
    assert not (tmp_path / "out").exists()
