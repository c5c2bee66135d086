"""The life of a registered model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg_nca.config.training import TrackingSettings
from medseg_nca.errors import ModelError, TrackingError
from medseg_nca.inference.bundle import SPEC, WEIGHTS
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.volume import Volume
from medseg_nca.pipelines import register
from medseg_nca.tracking.evaluation import remember_evaluation
from medseg_nca.tracking.registry import promote
from medseg_nca.tracking.resolve import load_segmentation
from medseg_nca.tracking.run import RunTracker, start_tracking
from medseg_nca.tracking.store import connect
from medseg_nca.tracking.verify import verify
from medseg_nca.tracking.versions import list_models, list_versions, show
from tests.tracking.tiny import evaluate, make_run, new_store, settings_of


def test_a_version_carries_what_is_known_of_it(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    run = tmp_path / "run"
    spec = make_run(run)
    evaluate(run / "evaluation", spec)
    with start_tracking(settings, run) as tracker:
        pass
    version = register.run(run, "hippo", tracking=settings.tracking, description="the first")
    assert version.uri == "models:/hippo/1"
    assert (version.evaluated, version.score, version.score_of) == (True, 0.81, "evaluation")
    assert version.status == "pending"
    assert version.run_id == tracker.run_id
    assert version.weights_sha256 == spec.weights_sha256
    assert version.description == "the first"
    assert version.tags["dataset_hash"] == "d" * 64
    assert version.tags["evaluated_on"] == "test of phantom"
    assert version.tags["labels"] == "anterior, post"
    assert show("hippo", None, settings.tracking) == version
    assert show("models:/hippo/1", None, settings.tracking) == version


def test_versions_count_up_and_keep_their_files(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    run = tmp_path / "run"
    first = make_run(run)
    with start_tracking(settings, run):
        pass
    register.run(run, "hippo", tracking=settings.tracking)
    second = make_run(run, seed=1)  # the run went on
    register.run(run, "hippo", tracking=settings.tracking)
    register.run(run, "another", tracking=settings.tracking)
    found = list_versions("hippo", settings.tracking)
    assert [v.version for v in found] == ["2", "1"]
    assert [v.weights_sha256 for v in found] == [second.weights_sha256, first.weights_sha256]
    newest = [v.uri for v in list_models(settings.tracking)]
    assert newest == ["models:/another/1", "models:/hippo/2"]
    for number, spec in (("1", first), ("2", second)):
        loaded = load_segmentation(f"models:/hippo/{number}", "cpu", settings.tracking)
        assert loaded.spec.weights_sha256 == spec.weights_sha256


def test_a_version_without_an_evaluation_is_not_promoted(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    spec = make_run(tmp_path / "run")
    version = register.run(tmp_path / "run", "hippo", tracking=store)
    assert (version.evaluated, version.score, version.score_of) == (False, 0.5, "validation")
    with pytest.raises(ModelError, match="has no evaluation") as caught:
        promote("hippo", "1", "champion", tracking=store)
    assert "medseg-nca evaluate" in str(caught.value.hint)
    folder = evaluate(tmp_path / "evaluated", spec)
    promoted = promote("hippo", "1", "champion", tracking=store, evaluation=folder)
    assert promoted.aliases == ("champion",)
    assert (promoted.status, promoted.score) == ("approved", 0.81)
    register.run(tmp_path / "run", "hippo", tracking=store, evaluation=folder)
    promote("hippo", "2", "champion", tracking=store)
    assert show("hippo", "champion", store).version == "2"
    assert show("hippo", "1", store).aliases == ()


def test_an_evaluation_that_was_logged_to_the_run_since_counts(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    run = tmp_path / "run"
    spec = make_run(run)
    with start_tracking(settings, run) as tracker:
        pass
    register.run(run, "hippo", tracking=settings.tracking)
    later = RunTracker(connect(str(settings.tracking.uri)), tracker.run_id, run)
    folder = evaluate(tmp_path / "evaluated", spec, dice=0.7)
    later.log_artifact(folder / "metrics.json", "evaluation_test")
    assert promote("hippo", "1", "champion", tracking=settings.tracking).score == 0.7


def test_an_evaluation_is_found_where_it_was_written(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    run = tmp_path / "run"
    spec = make_run(run)
    for side, dice in (("train", 0.9), ("test", 0.6), ("val", 0.7)):
        remember_evaluation(run, side, evaluate(tmp_path / side, spec, dice))
    assert register.run(run, "hippo", tracking=store).score == 0.6
    (tmp_path / "test" / "metrics.json").unlink()
    assert register.run(run, "hippo", tracking=store).score == 0.7
    evaluate(run / "evaluation", spec, 0.5)
    assert register.run(run, "hippo", tracking=store).score == 0.5


@pytest.mark.parametrize("place", [".", "model"])
def test_a_model_that_learned_nothing_is_registered_by_force_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    store = new_store(tmp_path / "store")
    run = tmp_path / "run"
    spec = make_run(run)
    (run / "training.json").write_text('{"learned": false}')
    with pytest.raises(ModelError, match=r"learned nothing.*--force"):
        register.run(run / place, "hippo", tracking=store)
    version = register.run(run / place, "hippo", tracking=store, force=True)
    assert version.tags["learned"] == "no"
    folder = evaluate(tmp_path / "evaluated", spec)
    promote("hippo", "1", "champion", tracking=store, evaluation=folder)
    assert "models:/hippo/1: its training has learned nothing." in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"mean_dice": 0.9, "model": {"weights_sha256": "0123"}}', "evaluates other weights"),
        ('{"mean_dice": 0.9}', "evaluates other weights"),
        ('{"cases": []}', "no entry 'score'"),
        ("{", "not a readable evaluation"),
    ],
)
def test_an_evaluation_of_something_else_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    store = new_store(tmp_path / "store")
    run = tmp_path / "run"
    make_run(run)
    (run / "evaluation").mkdir()
    (run / "evaluation" / "metrics.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        register.run(run, "hippo", tracking=store, evaluation=run / "evaluation")
    assert not register.run(run, "hippo", tracking=store).evaluated


@pytest.mark.parametrize("name", ["a/b", "a:b", "", "models:/a/1"])
def test_a_name_that_the_registry_cannot_hold(tmp_path: Path, name: str) -> None:
    make_run(tmp_path / "run")
    with pytest.raises(TrackingError, match="cannot be the name"):
        register.run(tmp_path / "run", name, tracking=new_store(tmp_path / "store"))


def test_an_alias_that_is_taken_by_mlflow(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    evaluate(tmp_path / "run" / "evaluation", make_run(tmp_path / "run"))
    register.run(tmp_path / "run", "hippo", tracking=store)
    with pytest.raises(TrackingError, match="cannot get the alias 'latest'"):
        promote("hippo", "1", "latest", tracking=store)


def test_registering_without_naming_a_store_takes_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path)
    run = tmp_path / "run"
    make_run(run)
    with start_tracking(settings, run):
        pass
    monkeypatch.chdir(tmp_path)
    assert register.run(run, "hippo").store == settings.tracking.uri
    assert not (tmp_path / "mlflow.db").exists()


def test_verification_names_what_failed(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    evaluate(tmp_path / "run" / "evaluation", make_run(tmp_path / "run"))
    register.run(tmp_path / "run", "hippo", tracking=store)
    checks = {c.name: c.passed for c in verify("models:/hippo/1", tracking=store).checks}
    assert checks == {"sha256": True, "loads": True, "prediction": True}
    local = {c.name: c.passed for c in verify(str(tmp_path / "run")).checks}
    assert local == {"sha256": None, "loads": True, "prediction": None}
    for stored in (tmp_path / "store" / "mlartifacts").rglob(WEIGHTS):
        stored.write_bytes(stored.read_bytes()[:-4])
    result = verify("models:/hippo/1", tracking=store)
    assert {c.name: c.passed for c in result.checks} == {"sha256": False, "loads": False}
    with pytest.raises(ModelError, match="failed verification"):
        result.raise_if_failed()
    with pytest.raises(ModelError, match="failed verification"):
        promote("hippo", "1", "champion", tracking=store)
    assert show("hippo", "1", store).status == "pending"


@pytest.mark.parametrize(("dims", "channels"), [(3, 1), (2, 2)])
def test_mlflow_loads_it_without_pickles_and_predicts_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dims: int, channels: int
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    store = new_store(tmp_path / "store")
    make_run(tmp_path / "run", dims=dims, channels=channels)
    register.run(tmp_path / "run", "hippo", tracking=store)
    stored = [p.name for p in (tmp_path / "store" / "mlartifacts").rglob("*") if p.is_file()]
    assert {WEIGHTS, SPEC, "MLmodel", "pyfunc_model.py"} <= set(stored)
    assert not [name for name in stored if name.endswith((".pkl", ".pickle"))]
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store.uri)
    try:
        model = mlflow.pyfunc.load_model("models:/hippo/1")
    finally:
        mlflow.set_tracking_uri(before)
    image = np.random.default_rng(0).normal(size=(2, channels, 14, 12, 10)[: dims + 2])
    image = image.astype(np.float32)
    labels = model.predict(image)
    affine = np.diag([1.5] * dims + [1.0] * (4 - dims))
    predictor = Predictor(load_segmentation("models:/hippo/1", "cpu", store))
    own = [predictor.predict(Volume(sample, affine)).label_map.array[0] for sample in image]
    assert labels.dtype == np.int32
    assert np.array_equal(labels, np.stack(own))
    assert np.array_equal(labels, model.predict({"image": image, "affine": affine}))
    with pytest.raises(Exception, match="spatial axes is needed"):
        model.predict(image[0])
    with pytest.raises(Exception, match='needs the key "image"'):
        model.predict({"picture": image})


def test_an_unknown_model_and_a_missing_run(tmp_path: Path) -> None:
    store = TrackingSettings(uri=new_store(tmp_path / "store").uri)
    with pytest.raises(ModelError, match="no models"):
        show("hippo", None, store)
    with pytest.raises(ModelError, match="no such folder"):
        register.run(tmp_path / "missing", "hippo", tracking=store)
