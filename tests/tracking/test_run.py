"""What a training leaves in the tracking store, and that the store cannot stop it."""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from medseg_nca.config import RunSettings
from medseg_nca.errors import Interrupted, StorePackageError, TrackingError
from medseg_nca.tracking.run import (
    LINK,
    RunTracker,
    flatten,
    linked_store,
    read_link,
    start_tracking,
    store_with_credentials,
)
from medseg_nca.tracking.store import connect
from tests.tracking.tiny import settings_of


def stored_run(tracker: RunTracker, settings: RunSettings) -> Any:
    return connect(str(settings.tracking.uri)).get_run(tracker.run_id)


def test_a_run_has_parameters_tags_metrics_and_files(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    run = tmp_path / "run"
    for name in ("settings.yaml", "figures/curves.png", "model/model.json"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("x")
    elsewhere = tmp_path / "note.txt"
    elsewhere.write_text("x")
    with start_tracking(settings, run, dataset_hash="abc") as tracker:
        assert tracker.active
        for step in range(3):
            tracker.log_metrics({"loss": 1.0 / (step + 1), "val_dice[a]": 0.5}, step=step)
        for path in (run / "settings.yaml", run / "figures" / "curves.png", run / "model"):
            tracker.log_artifact(path)
        tracker.log_artifact(elsewhere, "notes")
        tracker.log_artifact(run / "never_made.png")
    client = connect(str(settings.tracking.uri))
    stored = client.get_run(tracker.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.info.run_name == "first"
    assert stored.data.params["training.lr"] == str(settings.training.lr)
    assert stored.data.params["model.cell.channels"] == "16"
    assert stored.data.tags["dataset_hash"] == "abc"
    assert stored.data.tags["version.torch"]
    assert stored.data.tags["model"] == "pyramid_nca"
    history = client.get_metric_history(tracker.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert stored.data.metrics["val_dice_a_"] == 0.5
    files = {f.path for f in client.list_artifacts(tracker.run_id)}
    assert files == {"settings.yaml", "figures", "model", "notes"}
    assert [f.path for f in client.list_artifacts(tracker.run_id, "model")] == ["model/model.json"]
    assert [f.path for f in client.list_artifacts(tracker.run_id, "figures")] == [
        "figures/curves.png"
    ]
    assert read_link(run) == {"run_id": tracker.run_id, "tracking_uri": settings.tracking.uri}


def test_an_error_marks_the_run_as_failed(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    tracker = start_tracking(settings, tmp_path / "run")
    with pytest.raises(ZeroDivisionError), tracker:
        raise ZeroDivisionError
    assert stored_run(tracker, settings).info.status == "FAILED"
    assert not tracker.active


def test_a_resumed_run_goes_on_in_the_same_entry(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    run = tmp_path / "run"
    start_tracking(settings, run).log_metrics({"loss": 2.0}, step=1)  # and then kill -9
    tracker = start_tracking(settings, run, resume=True)
    tracker.log_metrics({"loss": 1.0}, step=2)
    client = connect(str(settings.tracking.uri))
    assert client.get_run(tracker.run_id).info.status == "RUNNING"
    tracker.finish()
    assert [m.value for m in client.get_metric_history(tracker.run_id, "loss")] == [2.0, 1.0]
    again = start_tracking(settings, run)  # not resumed: an entry of its own
    assert again.run_id != tracker.run_id


def test_a_resumed_run_whose_entry_is_gone_gets_a_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(tmp_path)
    link = {"run_id": "0" * 32, "tracking_uri": settings.tracking.uri}
    (tmp_path / LINK).write_text(json.dumps(link))
    tracker = start_tracking(settings, tmp_path, resume=True)
    assert tracker.active
    assert tracker.run_id != "0" * 32
    assert "a new one is begun" in caplog.text


def test_a_run_whose_store_was_left_behind_is_tracked_anew(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    old = tmp_path / "other machine" / "mlflow.db"
    link = {"run_id": "0" * 32, "tracking_uri": f"sqlite:///{old}"}
    (tmp_path / LINK).write_text(json.dumps(link))
    assert linked_store(tmp_path) is None
    tracker = start_tracking(settings, tmp_path, resume=True)
    assert tracker.active
    assert linked_store(tmp_path) == settings.tracking.uri
    assert not old.parent.exists()


def test_a_store_that_fails_on_the_way_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(tmp_path)
    tracker = start_tracking(settings, tmp_path / "run")
    with closing(sqlite3.connect(str(settings.tracking.uri).removeprefix("sqlite:///"))) as store:
        store.execute("DROP TABLE metrics")
        store.commit()
    for step in range(3):
        tracker.log_metrics({"loss": 1.0}, step=step)
    tracker.log_artifact(tmp_path)
    tracker.finish()
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [r.getMessage().partition(":")[0] for r in warnings] == [
        "Tracking stopped, the run goes on without it"
    ]
    assert not tracker.active


def test_a_store_that_does_not_answer_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    settings = settings_of(tmp_path, uri="http://127.0.0.1:9")
    tracker = start_tracking(settings, tmp_path / "run")
    tracker.log_metrics({"loss": 1.0})
    tracker.finish()
    assert "The run is not tracked" in caplog.text
    assert not (tmp_path / "run" / LINK).exists()


def test_a_store_that_cannot_exist_is_refused_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="not a tracking store"):
        start_tracking(settings_of(tmp_path, uri="./mlruns"), tmp_path)


def test_without_tracking_nothing_is_written(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, enabled=False)
    with start_tracking(settings, tmp_path / "run") as tracker:
        tracker.log_params({"a": 1})
        tracker.log_tags({"a": "b"})
        tracker.log_metrics({"loss": 1.0})
        tracker.log_artifact(tmp_path)
    assert not tracker.active
    assert not (tmp_path / "run").exists()


def test_only_the_first_process_of_a_distributed_training_is_tracked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert not start_tracking(settings_of(tmp_path), tmp_path / "run").active


def test_system_metrics_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    settings = settings_of(tmp_path, system_metrics=True)
    tracker = start_tracking(settings, tmp_path / "run")
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if any(key.startswith("system/") for key in stored_run(tracker, settings).data.metrics):
            break
        time.sleep(0.05)
    tracker.finish()
    assert "system/cpu_utilization_percentage" in stored_run(tracker, settings).data.metrics


def test_flatten_names_settings_as_the_command_line_does() -> None:
    tree = {"a": {"b": 1e-3, "c": {}}, "d": [1, 2], "e": None, "strange:key": "x" * 10_000}
    flat = flatten(tree)
    assert flat["a.b"] == "0.001"
    assert flat["a.c"] == "{}"
    assert flat["d"] == "[1, 2]"
    assert flat["e"] == "None"
    assert len(flat["strange_key"]) == 6000


values = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda child: st.lists(child, max_size=3) | st.dictionaries(st.text(), child, max_size=3),
    max_leaves=8,
)


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(min_size=1), values, max_size=4))
def test_what_flatten_gives_is_within_the_limits(tree: dict[str, Any]) -> None:
    for key, text in flatten(tree).items():
        assert len(key) <= 250
        assert len(text) <= 6000


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json"])
def test_a_damaged_link_is_no_link(tmp_path: Path, text: str) -> None:
    (tmp_path / LINK).write_text(text)
    assert read_link(tmp_path) is None


def test_a_stopped_run_is_killed_not_failed() -> None:
    class Store:
        status = ""

        def set_terminated(self, run_id: str, status: str) -> None:
            self.status = status

    store: Any = Store()
    with pytest.raises(Interrupted), RunTracker(store, "7"):
        raise Interrupted("Stopped.")
    assert store.status == "KILLED"


def test_the_password_of_a_store_comes_from_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    link = {"run_id": "7", "tracking_uri": "https://host"}
    (tmp_path / "mlflow.json").write_text(json.dumps(link))
    given = "https://me:secret@host"
    assert store_with_credentials(tmp_path, given) == given
    assert store_with_credentials(tmp_path, "https://me:secret@other") == "https://host"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert store_with_credentials(tmp_path) == given


def test_a_driver_that_is_missing_is_told_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    settings = settings_of(tmp_path, uri="postgresql://me:secret@localhost:1/x")
    with pytest.raises(StorePackageError, match="needs the package psycopg"):
        start_tracking(settings, tmp_path)
