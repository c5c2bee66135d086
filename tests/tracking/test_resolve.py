"""From a model's name to its files."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from medseg_nca.config.training import TrackingSettings
from medseg_nca.errors import MedsegError, ModelError, OutputError, TrackingError
from medseg_nca.inference.bundle import SPEC, WEIGHTS, load_bundle
from medseg_nca.inference.predictor import Predictor
from medseg_nca.pipelines import register
from medseg_nca.tracking import resolve
from medseg_nca.tracking.remembered import state_of
from medseg_nca.tracking.resolve import export_model, find_files, load_model, zoo_names
from medseg_nca.tracking.run import start_tracking
from medseg_nca.tracking.store import connect
from medseg_nca.work.shared_model import SharedModel
from tests.tracking.tiny import make_run, new_store, save_tiny, settings_of


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> TrackingSettings:
    """A store with one version of the model "hippo"."""
    folder = tmp_path_factory.mktemp("registry")
    store = new_store(folder / "store")
    make_run(folder / "run")
    register.run(folder / "run", "hippo", tracking=store)
    return store


def test_a_run_folder_and_a_folder_with_the_two_files(tmp_path: Path) -> None:
    spec = make_run(tmp_path / "run")
    for reference in (tmp_path / "run", tmp_path / "run" / "model"):
        loaded = load_model(str(reference), "cpu")
        assert loaded.spec == spec
        assert loaded.folder == tmp_path / "run" / "model"


def test_a_version_and_an_alias_and_a_runs_files(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    run = tmp_path / "run"
    spec = make_run(run)
    with start_tracking(settings, run) as tracker:
        tracker.log_artifact(run / "model")
    register.run(run, "hippo", tracking=settings.tracking)
    for reference in ("models:/hippo/1", f"runs:/{tracker.run_id}/model"):
        loaded = load_model(reference, "cpu", settings.tracking)
        assert loaded.spec.weights_sha256 == spec.weights_sha256
        assert not loaded.folder.exists(), "what was downloaded is in memory now"
        found = find_files(reference, settings.tracking)
        assert {path.name for path in found.folder.iterdir()} == {WEIGHTS, SPEC}
        found.release()
        assert not found.folder.exists()
    with pytest.raises(ModelError, match="has no weights"):
        load_model(f"runs:/{tracker.run_id}/figures", "cpu", settings.tracking)


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("models:/hipo/1", "did you mean 'hippo'", ""),
        ("models:/hippo/7", "no such version", "Versions of hippo: 1; aliases: none"),
        ("models:/hippo@champion", "no such version", "Versions of hippo: 1; aliases: none"),
        ("models:/hippo", "is not a model's name", "models:/NAME/VERSION"),
        ("runs:/0123/model", "cannot be downloaded", ""),
    ],
)
def test_what_is_not_in_the_registry(
    registry: TrackingSettings, reference: str, message: str, hint: str
) -> None:
    with pytest.raises(MedsegError, match=message) as caught:
        load_model(reference, "cpu", registry)
    assert hint in str(caught.value)


def test_an_empty_registry_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there are no models") as caught:
        load_model("models:/hippo/1", "cpu", new_store(tmp_path))
    assert "models register" in str(caught.value.hint)


def test_a_changed_file_in_the_store_is_refused(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    make_run(tmp_path / "run")
    register.run(tmp_path / "run", "hippo", tracking=store)
    save_tiny(tmp_path / "other", seed=1)
    for stored in (tmp_path / "store" / "mlartifacts").rglob(WEIGHTS):
        shutil.copyfile(tmp_path / "other" / WEIGHTS, stored)
    with pytest.raises(ModelError, match=r"sha256 of weights\.safetensors") as caught:
        load_model("models:/hippo/1", "cpu", store)
    assert "changed" in str(caught.value.hint)


@pytest.fixture
def own(tmp_path: Path) -> TrackingSettings:
    """A store of the test's own with one version of "hippo", which was loaded once."""
    store = new_store(tmp_path / "store")
    make_run(tmp_path / "run")
    register.run(tmp_path / "run", "hippo", tracking=store)
    load_model("models:/hippo/1", "cpu", store)
    return store


def spoil(store: TrackingSettings) -> None:
    """Make a store that nobody can ask, though its file looks as it did: same header and time."""
    database = Path(str(store.uri).removeprefix("sqlite:///"))
    state, before = state_of(database), database.stat()
    content = database.read_bytes()
    with database.open("r+b") as stream:  # the same file, so that its identity stays
        stream.write(content[:100] + b"\0" * (len(content) - 100))
    os.utime(database, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert state is not None
    assert state_of(database) == state


def test_a_store_that_did_not_change_is_asked_once(own: TrackingSettings) -> None:
    first = load_model("models:/hippo/1", "cpu", own)
    spoil(own)
    again = load_model("models:/hippo/1", "cpu", own)
    assert again.spec == first.spec
    with pytest.raises(TrackingError):
        load_model("models:/hippo/2", "cpu", own)


def test_a_model_of_a_store_is_shared_with_other_processes(
    own: TrackingSettings, tmp_path: Path
) -> None:
    """Its files are gone; the weights are written anew, and are called as they were registered."""
    loaded = load_model("models:/hippo/1", "cpu", own)
    shared = SharedModel(Predictor(loaded), tmp_path / "place")
    away: SharedModel = pickle.loads(pickle.dumps(shared))
    assert away.predictor is not shared.predictor
    assert away.predictor.spec == loaded.spec
    for mine, theirs in zip(
        loaded.model.parameters(), away.predictor.model.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_a_store_that_changed_is_asked_again(own: TrackingSettings, tmp_path: Path) -> None:
    client = connect(str(own.uri))
    client.set_registered_model_alias("hippo", "champion", "1")
    first = load_model("models:/hippo@champion", "cpu", own)
    assert load_model("models:/hippo@champion", "cpu", own).spec == first.spec
    make_run(tmp_path / "other", seed=1)
    register.run(tmp_path / "other", "hippo", tracking=own)
    client.set_registered_model_alias("hippo", "champion", "2")
    second = load_model("models:/hippo@champion", "cpu", own)
    assert second.spec.weights_sha256 != first.spec.weights_sha256
    client.delete_model_version("hippo", "1")
    with pytest.raises(ModelError, match="no such version"):
        load_model("models:/hippo/1", "cpu", own)


def test_a_file_changed_behind_the_back_of_the_store_is_refused(
    own: TrackingSettings, tmp_path: Path
) -> None:
    spoil(own)
    save_tiny(tmp_path / "other", seed=1)
    for stored in (tmp_path / "store" / "mlartifacts").rglob(WEIGHTS):
        shutil.copyfile(tmp_path / "other" / WEIGHTS, stored)
    with pytest.raises(ModelError, match=r"sha256 of weights\.safetensors"):
        load_model("models:/hippo/1", "cpu", own)


def test_a_damaged_or_unwritable_cache_is_none(
    own: TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "medseg_nca"
    for content in ("{", "[]", '{"state": 3}'):
        for path in cache.rglob("*.json"):
            path.write_text(content)
        assert load_model("models:/hippo/1", "cpu", own).spec.name == "tiny"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load_model("models:/hippo/1", "cpu", own).spec.name == "tiny"


def test_local_folders_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder") as caught:
        load_model(str(tmp_path / "missing"), "cpu")
    assert "zoo:NAME" in str(caught.value.hint)
    with pytest.raises(ModelError, match="holds no model"):
        load_model(str(tmp_path), "cpu")
    (tmp_path / "settings.yaml").write_text("")
    with pytest.raises(ModelError, match="no trained model yet") as caught:
        load_model(str(tmp_path), "cpu")
    assert "--resume" in str(caught.value.hint)
    with pytest.raises(ModelError, match="is a file"):
        load_model(str(tmp_path / "settings.yaml"), "cpu")


def test_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A package without its models cannot be had from this checkout, in which they lie.
    monkeypatch.setattr(resolve, "zoo_folder", lambda: tmp_path / "zoo")
    assert zoo_names() == ()
    with pytest.raises(ModelError, match="no models come with"):
        load_model("zoo:hippocampus", "cpu")
    spec = save_tiny(tmp_path / "zoo" / "hippocampus")
    assert zoo_names() == ("hippocampus",)
    assert load_model("zoo:hippocampus", "cpu").spec == spec
    with pytest.raises(ModelError, match="did you mean 'hippocampus'"):
        load_model("zoo:hipocampus", "cpu")
    with pytest.raises(ModelError, match="Did you mean zoo:hippocampus"):
        load_model("hippocampus", "cpu")


def test_an_exported_model_is_the_pair_of_files(tmp_path: Path) -> None:
    spec = make_run(tmp_path / "run")
    written = export_model(str(tmp_path / "run"), tmp_path / "out")
    assert [path.name for path in written] == ["weights.safetensors", "model.json"]
    assert load_bundle(tmp_path / "out", "cpu").spec == spec
    with pytest.raises(OutputError, match="already holds a model"):
        export_model(str(tmp_path / "run"), tmp_path / "out")
    assert export_model(str(tmp_path / "run"), tmp_path / "out", force=True) == written
