"""Many cases: what is finished is not predicted again, whoever stops the work."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from medseg_nca.cases.predict_case import Predicting
from medseg_nca.cases.prediction_inputs import CaseInput
from medseg_nca.cli.main import cli
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import Interrupted, PartialFailure
from medseg_nca.inference.bundle import LoadedModel, load_bundle
from medseg_nca.inference.predictor import Predictor
from medseg_nca.tasks.segmentation import prediction
from medseg_nca.work.shared_model import SharedModel
from tests.pipelines.resume.running import (
    CASES,
    Watch,
    a_case,
    listed,
    many,
    predicted,
    same_predictions,
)
from tests.pipelines.work import ROOT
from tests.tracking.tiny import save_tiny


def written(out: Path) -> dict[str, int]:
    # What a killed process left half-written begins with a dot; the next run removes it.
    found = (p for p in out.rglob("*.nii.gz") if not p.name.startswith("."))
    return {p.name: p.stat().st_mtime_ns for p in found}


def test_a_second_prediction_does_nothing(data: Path, model: LoadedModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert predicted(model, data, out) == CASES
    before, files = (out / "predictions.json").read_bytes(), written(out)
    assert predicted(model, data, out) == 0
    assert (out / "predictions.json").read_bytes() == before
    assert written(out) == files
    assert predicted(model, data, out, fresh=True) == CASES
    assert all(written(out)[name] != when for name, when in files.items())
    assert not (out / ".unfinished").exists()


def change_image(data: Path, out: Path) -> None:
    shutil.copy(a_case(data, 0), a_case(data))


def remove_output(data: Path, out: Path) -> None:
    (out / a_case(data).name).unlink()


def truncate_output(data: Path, out: Path) -> None:
    path = out / a_case(data).name
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("spoil", [change_image, remove_output, truncate_output])
def test_only_what_changed_is_predicted(
    data: Path, model: LoadedModel, tmp_path: Path, spoil: Any
) -> None:
    predicted(model, data, tmp_path / "out")
    spoil(data, tmp_path / "out")
    assert predicted(model, data, tmp_path / "out") == 1
    predicted(model, data, tmp_path / "clean")
    same_predictions(tmp_path / "out", tmp_path / "clean")


def test_other_settings_or_another_model_change_everything(
    data: Path, model: LoadedModel, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predicted(model, data, out)
    assert predicted(model, data, out, PredictionSettings(seed=3)) == CASES
    save_tiny(tmp_path / "other", dims=2, seed=5)
    other = load_bundle(tmp_path / "other", "cpu")
    assert predicted(other, data, out, PredictionSettings(seed=3)) == CASES
    assert predicted(other, data, out, PredictionSettings(seed=3)) == 0


def test_an_interrupted_prediction_goes_on(data: Path, model: LoadedModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    images = [data / "imagesTr"]
    with pytest.raises(Interrupted):
        prediction.run(prediction.PredictSegmentation(model, images, out), Watch(stop_after=2).job)
    (out / ".0123abcd.part.case.nii.gz").write_bytes(b"what kill -9 left")
    assert not (out / "predictions.json").exists(), "half a list would be taken for all of it"
    with pytest.raises(Interrupted):
        prediction.run(prediction.PredictSegmentation(model, images, out), Watch(stop_after=4).job)
    assert predicted(model, data, out) == CASES - 4
    predicted(model, data, tmp_path / "clean")
    same_predictions(tmp_path / "out", tmp_path / "clean")


def test_results_of_two_settings_are_not_mixed_up(
    data: Path, model: LoadedModel, tmp_path: Path
) -> None:
    """Stopped while results are replaced: going back to the old settings makes those anew."""
    out = tmp_path / "out"
    other = PredictionSettings(seed=3)
    predicted(model, data, out)
    with pytest.raises(Interrupted):
        prediction.run(
            prediction.PredictSegmentation(model, [data / "imagesTr"], out, other),
            Watch(stop_after=2).job,
        )
    assert predicted(model, data, out) == 2
    predicted(model, data, tmp_path / "clean")
    same_predictions(out, tmp_path / "clean")


def test_a_failed_input_is_tried_again_and_the_others_are_not(
    data: Path, model: LoadedModel, tmp_path: Path
) -> None:
    out, image = tmp_path / "out", a_case(data)
    whole = image.read_bytes()
    image.write_bytes(whole[:100])
    with pytest.raises(PartialFailure, match=f"1 of {CASES} inputs failed") as caught:
        prediction.run(prediction.PredictSegmentation(model, [data / "imagesTr"], out))
    (reason,) = caught.value.failures.values()
    assert str(image) in reason
    image.write_bytes(whole)
    assert predicted(model, data, out) == 1


def test_a_damaged_record_is_no_record(data: Path, model: LoadedModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        prediction.run(
            prediction.PredictSegmentation(model, [data / "imagesTr"], out), Watch(stop_after=3).job
        )
    first, second, third = sorted((out / ".unfinished").glob("*.json"))
    first.write_text("{")
    second.write_text("[1]")
    tree = json.loads(third.read_text())
    third.write_text(json.dumps({**tree, "record": {**tree["record"], "files": {"label_map": 3}}}))
    assert predicted(model, data, out) == CASES
    (out / "predictions.json").write_text('{"predictions": [{"record": []}]}')
    assert predicted(model, data, out) == CASES


def test_what_travels_to_a_worker_is_small(data: Path, model: LoadedModel, tmp_path: Path) -> None:
    """Paths travel; neither weights nor volumes do."""
    case = CaseInput("case", (a_case(data),))
    shared = SharedModel(Predictor(model), tmp_path / "place")
    item = Predicting(case, tmp_path / "out", shared)
    content = pickle.dumps(item)
    assert len(content) < 3000
    away: Predicting = pickle.loads(content)
    assert away.model.key == shared.key
    assert away.model.predictor.spec.labels == model.spec.labels
    again: Predicting = pickle.loads(content)
    assert away.model.predictor.loaded is again.model.predictor.loaded, "loaded once a process"


@pytest.mark.slow
def test_processes_predict_the_same(data: Path, model: LoadedModel, tmp_path: Path) -> None:
    bad = a_case(data)
    bad.write_bytes(bad.read_bytes()[:100])
    for workers in (1, 2):
        with pytest.raises(PartialFailure, match="1 of 6"):
            prediction.run(
                prediction.PredictSegmentation(
                    model, [data / "imagesTr"], tmp_path / f"{workers}", workers=workers
                )
            )
    same_predictions(tmp_path / "1", tmp_path / "2")


def test_processes_and_a_cluster_exclude_each_other(data: Path, tmp_path: Path) -> None:
    given = ["--workers", "2", "--scheduler", "tcp://127.0.0.1:1", "--out", str(tmp_path / "out")]
    for command in (
        ["predict", "--model", "zoo:hippocampus", str(data)],
        ["evaluate", "--model", "zoo:hippocampus", "--data", str(data)],
        ["preprocess", "--data", str(data)],
    ):
        result = CliRunner().invoke(cli, [*command, *given])
        assert result.exit_code == 2
        assert "a --scheduler decides on its own workers" in result.output
    assert not (tmp_path / "out").exists()


@contextmanager
def command(*arguments: object, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process of its own, with all its children ended at the end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-m", "medseg_nca", *map(str, arguments)]
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(call, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            children = psutil.Process(process.pid).children(recursive=True)
            for one in [psutil.Process(process.pid), *children]:
                one.kill()
        process.wait()


@pytest.mark.slow
def test_kill_9_costs_the_cases_at_work_alone(
    data: Path, model: LoadedModel, tmp_path: Path
) -> None:
    images, out = many(data, tmp_path / "images", 40), tmp_path / "out"
    passes = 40  # of the automaton, so that a case takes its time
    arguments = ["predict", "--model", model.folder, "--out", out, "--workers", 2,
                 "--uncertainty", passes, "images"]  # fmt: skip
    with command(*arguments, folder=tmp_path) as process:
        wait_for(lambda: len(list((out / ".unfinished").glob("*.json"))) >= 10, process)
        process.kill()
    finished = {p.stem: p.stat().st_mtime_ns for p in (out / ".unfinished").glob("*.json")}
    assert 10 <= len(finished) < 40
    assert not (out / "predictions.json").exists()
    before = written(out)
    with command(*arguments, folder=tmp_path) as process:
        assert process.wait() == 0, (tmp_path / "log.txt").read_text()
    again = [name for name, when in before.items() if written(out)[name] != when]
    assert len(again) <= 2 * (len(before) - 2 * len(finished)) + 2
    assert len(before) - len(again) >= 2 * len(finished), "a finished case was done again"
    assert len(listed(out)["predictions"]) == 40
    assert not list(out.glob(".*"))
    assert images.exists()


def wait_for(condition: Any, process: subprocess.Popen[bytes], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)
