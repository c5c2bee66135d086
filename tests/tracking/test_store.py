"""Which store is meant, and what is said of one that cannot be used."""

from __future__ import annotations

import logging
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from medseg_nca.config.training import TrackingSettings
from medseg_nca.errors import StorePackageError, TrackingError
from medseg_nca.tracking import registry, versions
from medseg_nca.tracking.resolve import load_segmentation
from medseg_nca.tracking.store import connect, experiment_id, reason, shown, store_uri
from tests.tracking.tiny import new_store


def test_the_given_store_comes_first_then_the_environments_then_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert store_uri() == "http://host:5000"
    assert store_uri("postgresql+psycopg2://user@host/db") == "postgresql+psycopg2://user@host/db"


@pytest.mark.parametrize("given", ["runs/a.db", "sqlite:///runs/a.db"])
def test_a_sqlite_store_is_named_by_its_absolute_path(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_uri(given) == f"sqlite:///{tmp_path}/runs/a.db"


@pytest.mark.parametrize("given", ["./mlruns", "file:///tmp/mlruns", "htpp://host", "nonsense"])
def test_what_is_no_store_is_refused(given: str) -> None:
    with pytest.raises(TrackingError, match="is not a tracking store") as caught:
        store_uri(given)
    assert "sqlite:///" in str(caught.value.hint)


def test_a_server_needs_a_host() -> None:
    with pytest.raises(TrackingError, match="names no host"):
        store_uri("http:")


def test_passwords_are_not_shown() -> None:
    assert shown("https://me:secret@host:5000/x") == "https://host:5000/x"
    assert reason(ValueError("at http://me:se@cret@host/x\nmore")) == "at http://host/x"
    assert shown("sqlite:////tmp/mlflow.db") == "sqlite:////tmp/mlflow.db"


def test_connecting_is_quiet_and_does_not_touch_the_global_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    client = connect(str(new_store(tmp_path).uri))
    assert experiment_id(client, "first") == experiment_id(client, "first")
    place = client.get_experiment_by_name("first").artifact_location
    assert place == (tmp_path / "mlartifacts").as_uri()
    assert mlflow.get_tracking_uri() == before
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger("mlflow").level == logging.ERROR


def test_a_file_that_is_no_store_is_a_tracking_error(tmp_path: Path) -> None:
    (tmp_path / "other.db").write_text("not a data base, but a text of some length")
    with pytest.raises(TrackingError, match=r"other\.db cannot be used"):
        connect(store_uri(str(tmp_path / "other.db")))


def test_who_only_asks_makes_no_store(tmp_path: Path) -> None:
    """It is said that there is none, and where; no file and no folder is made."""
    uri = store_uri(str(tmp_path / "typo" / "mlflow.db"))
    for ask in (
        lambda: connect(uri),
        lambda: versions.list_models(TrackingSettings(uri=uri)),
        lambda: versions.list_versions("hippo", TrackingSettings(uri=uri)),
        lambda: versions.show("hippo", "1", TrackingSettings(uri=uri)),
        lambda: load_segmentation("models:/hippo/1", "cpu", TrackingSettings(uri=uri)),
        lambda: load_segmentation("runs:/0a1b/model", "cpu", TrackingSettings(uri=uri)),
        lambda: registry.promote("hippo", "1", "champion", tracking=TrackingSettings(uri=uri)),
    ):
        with pytest.raises(
            TrackingError, match=r"typo/mlflow\.db: there is no tracking store"
        ) as e:
            ask()
        assert "--tracking-uri" in str(e.value.hint)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("create", [False, True])
def test_a_data_base_of_another_program_stays_as_it_is(tmp_path: Path, create: bool) -> None:
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE patients (name TEXT)")
        database.commit()
    before = file.read_bytes()
    with pytest.raises(TrackingError, match="without MLflow's tables"):
        connect(store_uri(str(file)), create=create)
    assert file.read_bytes() == before


def test_an_empty_file_is_no_store_either(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(TrackingError, match="without MLflow's tables"):
        connect(store_uri(str(tmp_path / "mlflow.db")))
    assert (tmp_path / "mlflow.db").read_bytes() == b""


def test_a_server_that_is_not_there_is_a_tracking_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 cannot be used"):
        connect("http://127.0.0.1:9")


def test_a_deleted_experiment_is_named(tmp_path: Path) -> None:
    client = connect(str(new_store(tmp_path).uri))
    client.delete_experiment(experiment_id(client, "old"))
    with pytest.raises(TrackingError, match="'old' was deleted"):
        experiment_id(client, "old")


DRIVERS = [
    ("postgresql://me:se/cr@et@localhost:1/x", "psycopg", "pip install 'psycopg[binary]'"),
    ("postgresql+psycopg2://me:secret@localhost:1/x", "psycopg2", "pip install psycopg2-binary"),
    ("mysql://me:secret@localhost:1/x", "MySQLdb", "pip install mysqlclient"),
    ("mysql+pymysql://localhost:1/x?password=secret", "pymysql", "pip install pymysql"),
    ("mssql+pyodbc://me:secret@localhost:1/x?driver=a", "pyodbc", "pip install pyodbc"),
]


@pytest.mark.parametrize(("uri", "module", "command"), DRIVERS)
def test_a_driver_that_is_missing_is_named_with_its_package(
    uri: str, module: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StorePackageError, match="which is not installed") as caught:
        connect(uri)
    assert caught.value.hint == command
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    for word in ("secret", "se/cr", "me:"):
        assert word not in str(caught.value)


def test_a_driver_that_no_package_has_is_named() -> None:
    with pytest.raises(StorePackageError, match="the database driver 'nonesuch'"):
        connect("postgresql+nonesuch://localhost:1/x")


@pytest.mark.parametrize(
    ("place", "module", "command"),
    [
        ("s3://bucket/x", "boto3", "pip install boto3"),
        ("wasbs://c@a.blob.core.windows.net/x", "azure.storage.blob", "azure-storage-blob"),
        ("gs://bucket/x", "google.cloud", "pip install google-cloud-storage"),
    ],
)
def test_the_client_of_a_cloud_that_is_missing_is_named(
    tmp_path: Path, place: str, module: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (module.partition(".")[0], module):
        monkeypatch.setitem(sys.modules, name, None)
    tracking = new_store(tmp_path)
    client = connect(str(tracking.uri))
    run = client.create_run(client.create_experiment("far", artifact_location=place))
    with pytest.raises(StorePackageError, match="which is not installed") as caught:
        load_segmentation(f"runs:/{run.info.run_id}/model", tracking=tracking)
    assert command in str(caught.value.hint)


def test_secrets_in_a_query_are_not_shown() -> None:
    uri = "mssql+pyodbc:///?odbc_connect=DRIVER%3Da%3BPWD%3Dhidden&x=1"
    assert "hidden" not in shown(uri)
    assert shown("postgresql://host/x?user=a&password=hid&sslmode=b").endswith("sslmode=b")
    assert "hid" not in shown("postgresql://host/x?user=a&password=hid&sslmode=b")
    assert shown("postgresql://me:a/b@c@host:5/x") == "postgresql://host:5/x"
    assert shown("http://host:5000/a") == "http://host:5000/a"
