"""Many cases: what is finished is not done again, whoever stops the work, wherever it is done."""

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

import nibabel as nib
import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from medseg_nca.cases.predict_case import Predicting
from medseg_nca.cases.prediction_inputs import CaseInput
from medseg_nca.cli.main import cli
from medseg_nca.config.loading import load_settings
from medseg_nca.config.training import EvaluationSettings, PredictionSettings
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.errors import Interrupted, PartialFailure
from medseg_nca.inference.bundle import LoadedModel, load_bundle
from medseg_nca.inference.predictor import Predictor
from medseg_nca.job import ONE_CASE, Job, Progress
from medseg_nca.pipelines import preprocess
from medseg_nca.tasks.segmentation import evaluation, prediction
from medseg_nca.work.scheduler import SchedulerError
from medseg_nca.work.shared_model import SharedModel
from tests.pipelines.work import ROOT, cluster
from tests.tracking.tiny import save_tiny

CASES = 6
OF_THE_RUN = {"seconds", "created", "git_commit"}
QUICK = EvaluationSettings(bootstrap=20)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("size") / "data"
    return write_phantom(folder, cases=CASES, seed=1, dims=2, size=(24, 20))


@pytest.fixture
def data(source: Path, tmp_path: Path) -> Path:
    """A data set whose labels are called as the model's."""
    folder = Path(shutil.copytree(source, tmp_path / "data"))
    tree = json.loads((folder / "dataset.json").read_text())
    tree["labels"] = {"0": "background", "1": "anterior", "2": "post", "3": "other"}
    (folder / "dataset.json").write_text(json.dumps(tree))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    save_tiny(tmp_path / "model", dims=2)
    return load_bundle(tmp_path / "model", "cpu")


class Watch:
    """Notes what a job hears, and cancels it after some cases."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.job = Job(self.hear)
        self.stop_after = stop_after
        self._resumed: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    def hear(self, progress: Progress) -> None:
        if progress.phase == ONE_CASE:
            return
        self._resumed[progress.phase] = int(progress.facts.get("resumed", 0))
        self._seen[progress.phase] = progress.done
        if self.seen == self.stop_after:
            self.job.cancel()

    @property
    def seen(self) -> int:
        """How many cases there were, in all phases."""
        return sum(self._seen.values())

    @property
    def resumed(self) -> int:
        """How many of them an earlier run had made."""
        return sum(self._resumed.values())

    @property
    def done(self) -> int:
        """How many cases were worked on."""
        return self.seen - self.resumed


def predicted(
    model: LoadedModel,
    data: Path,
    out: Path,
    settings: PredictionSettings | None = None,
    **how: Any,
) -> int:
    """Predict; returns how many cases were worked on."""
    watch = Watch()
    prediction.run(
        prediction.PredictSegmentation(model, [data / "imagesTr"], out, settings, **how), watch.job
    )
    assert watch.seen == CASES
    return watch.done


def evaluated(
    model: LoadedModel, data: Path, out: Path, settings: EvaluationSettings = QUICK, **how: Any
) -> int:
    watch = Watch()
    evaluation.run(
        evaluation.EvaluateSegmentation(model, data, out, settings=settings, **how), watch.job
    )
    return watch.done


def timeless(tree: Any) -> Any:
    """A tree of results without what may differ between two runs of the same command."""
    if isinstance(tree, dict):
        return {key: timeless(v) for key, v in tree.items() if key not in OF_THE_RUN}
    return [timeless(v) for v in tree] if isinstance(tree, list) else tree


def listed(out: Path, name: str = "predictions.json") -> Any:
    return timeless(json.loads((out / name).read_text()))


def same_predictions(one: Path, two: Path) -> None:
    """Two folders hold the same, but for the times and their own names."""
    lists = [json.dumps(listed(folder)).replace(str(folder), "OUT") for folder in (one, two)]
    assert lists[0] == lists[1]
    names = [sorted(p.name for p in folder.iterdir()) for folder in (one, two)]
    assert names[0] == names[1]
    for path in one.glob("*.nii.gz"):
        arrays = [np.asarray(nib.load(p).dataobj) for p in (path, two / path.name)]  # type: ignore[attr-defined]
        np.testing.assert_array_equal(*arrays)


def a_case(data: Path, number: int = 2, part: str = "imagesTr") -> Path:
    return sorted((data / part).iterdir())[number]


def written(out: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in out.rglob("*.nii.gz")}


# --- predict ---------------------------------------------------------------------------------


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


# --- evaluate --------------------------------------------------------------------------------


def same_evaluations(one: Path, two: Path) -> None:
    assert listed(one, "metrics.json") == listed(two, "metrics.json")
    tables = [
        [line.rsplit(",", 1)[0] for line in (folder / "metrics.csv").read_text().splitlines()]
        for folder in (one, two)
    ]
    assert tables[0] == tables[1]
    names = [sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) for folder in (one, two)]
    assert names[0] == names[1]


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longest."""
    monkeypatch.setattr(evaluation, "draw", lambda *_: {})


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("save", [False, True])
def test_a_second_evaluation_measures_nothing(
    data: Path, model: LoadedModel, tmp_path: Path, save: bool
) -> None:
    out = tmp_path / "out"
    assert evaluated(model, data, out, save_predictions=save) == CASES
    before = listed(out, "metrics.json")
    assert evaluated(model, data, out, save_predictions=save) == 0
    assert listed(out, "metrics.json") == before
    assert evaluated(model, data, out, save_predictions=save, fresh=True) == CASES
    assert evaluated(model, data, out, save_predictions=True) == (0 if save else CASES)
    assert not (out / ".unfinished").exists()


@pytest.mark.usefixtures("no_figures")
def test_only_what_changed_is_evaluated(data: Path, model: LoadedModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluated(model, data, out, save_predictions=True)
    label: Any = nib.load(a_case(data, 2, "labelsTr"))  # type: ignore[attr-defined]
    array = np.asarray(label.dataobj)
    swapped = np.where(array == 1, 2, np.where(array == 2, 1, array)).astype(np.uint8)
    nib.Nifti1Image(swapped, label.affine).to_filename(a_case(data, 2, "labelsTr"))
    (out / "predictions" / a_case(data, 3).name).unlink()
    assert evaluated(model, data, out, save_predictions=True) == 2
    # Confidence intervals are of all cases together; the tolerance is of each.
    assert evaluated(model, data, out, EvaluationSettings(bootstrap=30)) == 0
    assert evaluated(model, data, out, EvaluationSettings(nsd_tolerance=2)) == CASES
    evaluated(model, data, tmp_path / "clean", EvaluationSettings(nsd_tolerance=2))
    shutil.rmtree(out / "predictions")
    same_evaluations(out, tmp_path / "clean")


def test_an_interrupted_evaluation_goes_on(data: Path, model: LoadedModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        evaluation.run(
            evaluation.EvaluateSegmentation(model, data, out, settings=QUICK),
            Watch(stop_after=2).job,
        )
    assert not (out / "metrics.json").exists()
    assert evaluated(model, data, out) == CASES - 2
    evaluated(model, data, tmp_path / "clean")
    same_evaluations(out, tmp_path / "clean")


@pytest.mark.usefixtures("no_figures")
def test_numbers_that_were_edited_are_measured_again(
    data: Path, model: LoadedModel, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    evaluated(model, data, out)
    lines = (out / "metrics.csv").read_text().splitlines()
    cells = lines[1].split(",")
    lines[1] = ",".join([*cells[:2], "0.999", *cells[3:]])
    (out / "metrics.csv").write_text("\n".join(lines) + "\n")
    assert evaluated(model, data, out) == 1
    evaluated(model, data, tmp_path / "clean")
    same_evaluations(out, tmp_path / "clean")


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_processes_evaluate_the_same(data: Path, model: LoadedModel, tmp_path: Path) -> None:
    for workers in (1, 2):
        out = tmp_path / f"{workers}"
        assert evaluated(model, data, out, save_predictions=True, workers=workers) == CASES
    same_evaluations(tmp_path / "1", tmp_path / "2")


# --- preprocess and the commands -------------------------------------------------------------


def test_preprocess_makes_all_anew_when_told(data: Path, tmp_path: Path) -> None:
    settings = load_settings(None, ("model.dims=2",))
    counts = []
    for fresh in (False, False, True):
        watch = Watch()
        preprocess.run(
            preprocess.PreprocessRequest(data, tmp_path / "out", settings, 0, fresh=fresh),
            watch.job,
        )
        counts.append(watch.resumed)
    assert counts == [0, CASES, 0]


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


def many(data: Path, folder: Path, count: int) -> Path:
    """The images of a data set, over and over."""
    folder.mkdir()
    images = sorted((data / "imagesTr").iterdir())
    for number in range(count):
        shutil.copy(images[number % len(images)], folder / f"{number:03d}.nii.gz")
    return folder


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


# --- a cluster -------------------------------------------------------------------------------


@pytest.mark.slow
class TestCluster:
    """A Dask cluster whose workers share the disk and start in folders of their own."""

    @pytest.fixture(autouse=True)
    def _needs_dask(self) -> None:
        pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")

    def test_the_results_are_those_of_one_process(
        self, data: Path, model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With relative paths, which mean nothing where the workers are."""
        monkeypatch.chdir(tmp_path)
        here = Path("data")
        settings = load_settings(None, ("model.dims=2",))
        with cluster(tmp_path / "cluster", 2) as made:
            assert predicted(model, here, Path("p2"), scheduler=made.address) == CASES
            assert predicted(model, here, Path("p2"), scheduler=made.address) == 0
            assert evaluated(model, here, Path("e2"), scheduler=made.address) == CASES
            far = preprocess.run(
                preprocess.PreprocessRequest(here, Path("q2"), settings, scheduler=made.address)
            )
        predicted(model, here, Path("p1"))
        evaluated(model, here, Path("e1"))
        near = preprocess.run(preprocess.PreprocessRequest(here, Path("q1"), settings, 0))
        same_predictions(Path("p1"), Path("p2"))
        same_evaluations(Path("e1"), Path("e2"))
        assert far.index == near.index
        assert not (tmp_path / "q2" / ".unfinished").exists()

    def test_a_killed_worker_loses_no_case_and_repeats_none(
        self, data: Path, model: LoadedModel, tmp_path: Path
    ) -> None:
        images, out = many(data, tmp_path / "images", 40), tmp_path / "out"
        finished: dict[str, int] = {}

        class Killing(Watch):
            def hear(self, progress: Progress) -> None:
                super().hear(progress)
                if progress.done == 12:
                    records = list((out / ".unfinished").glob("*.json"))
                    finished.update((str(p), p.stat().st_mtime_ns) for p in records)
                    made.workers[1].kill()
                if progress.done == 38:
                    for path, when in finished.items():
                        assert Path(path).stat().st_mtime_ns == when, "done again"

        with cluster(tmp_path / "cluster", 2) as made:
            settings = PredictionSettings(uncertainty=50)
            results = prediction.run(
                prediction.PredictSegmentation(
                    model, [images], out, settings, scheduler=made.address
                ),
                Killing().job,
            )
        assert len(finished) >= 12
        assert [result.source.name for result in results] == sorted(os.listdir(images))
        prediction.run(
            prediction.PredictSegmentation(model, [images], tmp_path / "clean", settings)
        )
        same_predictions(out, tmp_path / "clean")

    def test_a_worker_that_does_not_see_the_folder_is_passed_over(
        self, data: Path, model: LoadedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        shared = tmp_path / "shared"
        shared.mkdir()
        shutil.move(data, shared / "data")
        out = shared / "out"
        with cluster(tmp_path / "cluster", 0) as made:
            made.add(without=shared)
            with pytest.raises(SchedulerError, match=rf"does not see the folder {out}"):
                predicted(model, shared / "data", out, scheduler=made.address)
            made.add()
            made.expect(2)
            assert predicted(model, shared / "data", out, scheduler=made.address) == CASES
        passed = [r.getMessage() for r in caplog.records if "passed over" in r.getMessage()]
        assert str(out) in passed[-1]

    def test_images_that_a_worker_does_not_see_go_to_another(
        self, data: Path, model: LoadedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with cluster(tmp_path / "cluster", 0) as made:
            made.add(without=data)
            made.add()
            made.expect(2)
            assert predicted(model, data, tmp_path / "out", scheduler=made.address) == CASES
        assert "does not see the file" in caplog.text
