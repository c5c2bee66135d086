"""`medseg-nca doctor --serve`: what is wrong with a set-up is said before it is started."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.serving.security.users import UserFile
from medseg_nca.tracking.registry import register
from medseg_nca.tracking.resolve import load_model
from tests.orthanc import Orthanc
from tests.serving.certificates import write_pair
from tests.serving.examining import Doctor
from tests.tracking.tiny import make_run, new_store, save_tiny

pytest.importorskip(
    "argon2", reason="argon2-cffi is not installed: pip install 'medseg-nca[serve]'"
)
PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


DOCTOR = Doctor("--serve")
invoke, findings, level = DOCTOR.invoke, DOCTOR.findings, DOCTOR.level


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users.json"
    UserFile(path).add("ann", PASSWORD, "admin")
    return path


def test_a_good_set_up_is_ready_and_stays_as_it_was(tmp_path: Path, users: Path) -> None:
    cert, key = write_pair(tmp_path)
    save_tiny(tmp_path / "tiny")
    (tmp_path / "images").mkdir()
    file = tmp_path / "serve.yaml"
    file.write_text(
        "models: tiny\nusers: users.json\ntls_cert: cert.pem\ntls_key: key.pem\nstate: state\n"
        "studies: images\nkeep_gb: 0.001\nmax_body: 1\n"
    )
    before = sorted(tmp_path.iterdir())
    code, out = invoke("--settings", str(file))
    assert code == 0, out
    assert "computed a small image" in out
    assert "Ready" in out
    assert "problem" not in out
    assert sorted(tmp_path.iterdir()) == before
    assert (cert, key) == (tmp_path / "cert.pem", tmp_path / "key.pem")


def test_users_have_to_be_there_with_an_admin_and_be_secret(tmp_path: Path, users: Path) -> None:
    assert level("access.users")[0] == "note"
    assert level("access.users", "--users", "none.json")[0] == "problem"
    assert level("access.users", "--users", str(users))[0] == "ok"
    UserFile(users).remove("ann")
    assert level("access.users", "--users", str(users))[0] == "problem"
    UserFile(users).add("bob", PASSWORD, "user")
    assert level("access.users", "--users", str(users))[0] == "problem"
    users.chmod(0o644)
    assert level("access.users file", "--users", str(users))[0] == "problem"
    users.chmod(0o640)
    assert level("access.users file", "--users", str(users))[0] == "note"
    users.write_text("{")
    found, text = level("access.users", "--users", str(users))
    assert found == "problem"
    assert "is no file of users" in text


def test_beyond_this_machine_users_and_tls_are_needed(users: Path) -> None:
    found, text = level("access.host", "--host", "0.0.0.0", "--users", str(users))
    assert found == "problem"
    assert "TLS" in text
    insecure = ("--host", "0.0.0.0", "--insecure")
    assert level("access.host", *insecure)[0] == "note"


def test_a_port_that_is_taken_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        other.listen()
        code, found = findings("--port", port)
    assert code == 2
    assert found["access.port"]["level"] == "problem"
    assert "free" in found["access.port"]["advice"]


def test_a_certificate_is_looked_at(tmp_path: Path) -> None:
    def look(name: str, **how: Any) -> tuple[str, str]:
        cert, key = write_pair(tmp_path / "tls", **how)
        return level(name, "--tls-cert", str(cert), "--tls-key", str(key))

    assert look("tls.dates")[0] == "ok"
    assert look("tls.dates", days=5)[0] == "note"
    assert look("tls.dates", days=-1, begins=-2)[1].startswith("expired")
    assert look("tls.dates", begins=2)[1].startswith("not valid yet")
    assert look("tls.names")[0] == "ok"
    assert look("tls.names", names=("nca.example",))[0] == "note"
    cert, key = write_pair(tmp_path / "tls")
    key.chmod(0o644)
    pair = ("--tls-cert", str(cert), "--tls-key", str(key))
    assert level("tls.key file", *pair)[0] == "problem"
    _, other = write_pair(tmp_path / "other")
    code, found = findings("--tls-cert", str(cert), "--tls-key", str(other))
    assert (code, found["tls.pair"]["level"]) == (2, "problem")
    assert level("tls.pair", "--tls-cert", str(cert))[0] == "problem"


def test_the_folder_and_its_disk_are_looked_at(tmp_path: Path) -> None:
    found, text = level("state.folder", "--state", "new")
    assert (found, "made by the first start" in text) == ("ok", True)
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    assert level("state.folder", "--state", "file")[0] == "problem"
    assert level("state.disk", "--state", "new", "--keep-gb", "1e9")[0] == "note"
    assert level("state.disk", "--state", "new", "--max-body", "1e12")[0] == "problem"
    state = tmp_path / "state"
    state.mkdir(0o755)
    assert level("state.mode", "--state", "state")[0] == "problem"
    (state / "jobs.sqlite").write_text("no database, whatever its name says, and long enough")
    assert level("state.database", "--state", "state")[0] == "problem"
    (state / "audit.log").touch()
    os.truncate(state / "audit.log", 200_000_000)
    assert level("state.audit log", "--state", "state")[0] == "note"


def test_a_clock_that_went_back_is_found(tmp_path: Path) -> None:
    assert level("clock.time")[0] != "problem"
    (tmp_path / "state").mkdir()
    log = tmp_path / "state" / "audit.log"
    log.touch()
    later = time.time() + 3600
    os.utime(log, (later, later))
    assert level("clock.time", "--state", "state")[0] == "problem"


def test_a_settings_file_with_a_password_is_for_the_server_alone(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("tracking_uri: postgresql://me:treasure@host/x\n")
    file.chmod(0o644)
    code, out = invoke("--settings", str(file), "--json")
    assert code == 2
    assert "treasure" not in out
    assert "settings" in {f["area"] for f in json.loads(out)["findings"] if f["level"] == "problem"}


def test_models_that_cannot_be_served_are_found(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    spec = tmp_path / "tiny" / "model.json"
    spec.write_text(spec.read_text().replace('"weights_sha256": "', '"weights_sha256": "0'))
    _, found = findings("--models", "tiny,zoo:none,gone")
    for name in ("tiny", "none", "gone"):
        assert found[f"models.{name}"]["level"] == "problem", name


def test_a_model_of_the_registry_needs_it_and_has_to_be_what_was_registered(
    tmp_path: Path,
) -> None:
    store = new_store(tmp_path)
    make_run(tmp_path / "run")
    register(load_model(str(tmp_path / "run")), "tiny", tracking=store)
    given = ("--models", "models:/tiny/1", "--tracking-uri", str(store.uri))
    code, found = findings(*given)
    assert code == 0, found
    assert "version 1" in found["models.tiny"]["value"]
    assert found["tracking.store"]["level"] == "ok"
    weights = next((tmp_path / "mlartifacts").rglob("weights.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, found = findings(*given)
    assert (code, found["models.tiny"]["level"]) == (2, "problem")
    gone = ("--models", "models:/tiny/1", "--tracking-uri", "http://127.0.0.1:9")
    assert level("tracking.store", *gone)[0] == "problem"


def test_a_model_that_is_too_slow_is_a_problem(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    _, found = findings("--models", "tiny", "--within", "0.01")
    assert found["models.tiny on cpu"]["level"] == "problem"
    assert "within" in found["models.tiny on cpu"]["value"]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    found = Orthanc(tmp_path_factory.mktemp("orthanc"), "ann", "treasure").start()
    yield found
    found.stop()


def test_a_dicomweb_server_is_searched_with_the_credentials(
    tmp_path: Path, orthanc: Orthanc
) -> None:
    auth = tmp_path / "auth.json"
    auth.write_text(json.dumps({"username": "ann", "password": "treasure"}))
    auth.chmod(0o600)
    given = ("--studies", orthanc.dicomweb, "--dicomweb-auth", str(auth))
    assert level("images.DICOMweb", *given)[0] == "ok"
    auth.write_text(json.dumps({"username": "ann", "password": "wrong"}))
    found, text = level("images.DICOMweb", *given)
    assert found == "problem"
    assert "wrong" not in text
    auth.chmod(0o644)
    assert level("images.credentials file", *given)[0] == "problem"


def test_a_dicomweb_server_that_is_not_there_is_found(tmp_path: Path) -> None:
    assert level("images.DICOMweb", "--studies", "http://127.0.0.1:9/dicom-web")[0] == "problem"
    plain = level("images.DICOMweb", "--studies", "http://pacs.example/dicom-web")
    assert "without TLS" in plain[1]
    assert level("images.folder", "--studies", str(tmp_path / "none"))[0] == "problem"


@pytest.mark.parametrize(
    ("given", "words"),
    [(("--store",), "--store"), (("--ohif", "."), "--ohif"), (("--engine", "cpo"), "cpu")],
)
def test_what_serve_would_refuse_is_found(given: tuple[str, ...], words: str) -> None:
    code, found = findings(*given)
    assert code == 2
    assert words in found["settings.together"]["value"] + found["settings.together"]["advice"]


def test_a_folder_that_holds_no_viewer_is_found(tmp_path: Path) -> None:
    given = ("--studies", "http://127.0.0.1:9/dicom-web", "--ohif", str(tmp_path))
    assert level("images.OHIF", *given)[0] == "problem"
    (tmp_path / "index.html").write_text('<script src="/ohif/app.js"></script>')
    assert level("images.OHIF", *given)[0] == "ok"


def test_models_compute_on_the_engine_that_is_to_serve_them(tmp_path: Path) -> None:
    """The worker of the doctor is asked for the same one."""
    save_tiny(tmp_path / "tiny")
    _, found = findings("--models", "tiny", "--engine", "reference")
    assert found["models.tiny on cpu"]["level"] == "ok"
    _, found = findings("--models", "tiny", "--engine", "none")
    assert found["models.tiny on cpu"]["level"] == "problem"


def test_flags_of_a_server_are_for_serve() -> None:
    result = CliRunner().invoke(cli, ["doctor", "--users", "x"])
    assert result.exit_code == 2
    assert "--users is for --serve" in result.output
    text = CliRunner().invoke(cli, ["doctor", "--help"]).output
    assert "--tracking-uri" in text
    assert "--tls-cert" not in text


def test_a_database_in_use_is_read(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(0o700)
    database = sqlite3.connect(tmp_path / "state" / "jobs.sqlite")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE jobs (bytes INTEGER)")
    database.execute("INSERT INTO jobs VALUES (1500000000)")
    database.commit()
    assert level("state.database", "--state", "state") == ("ok", "1 jobs, 1.5 GB of results")
    database.close()
