"""A server with users: who may do what, against a running one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from medseg_nca.serving.security.users import UserFile
from tests.serving.running import Server, picture, start

pytest.importorskip(
    "argon2", reason="argon2-cffi is not installed: pip install 'medseg-nca[serve]'"
)
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> UserFile:
    file = UserFile(tmp_path_factory.mktemp("users") / "users.json")
    for name, role in (("ann", "user"), ("bob", "user"), ("eve", "reader"), ("adm", "admin")):
        file.add(name, PASSWORD, role)  # type: ignore[arg-type]
    return file


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, users: UserFile) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("secured")
    found = start(folder, "--models", "zoo:nuclei", "--users", str(users.path))
    yield found
    assert found.stop() == 0, found.log.read_text()
    written = found.log.read_text() + (found.state / "audit.log").read_text()
    assert PASSWORD not in written


def log_in(server: Server, name: str, password: str = PASSWORD) -> Server:
    form = {"username": name, "password": password, "grant_type": "password"}
    answer = server.post("/auth/token", data=form)
    assert answer.status_code == 200, answer.text
    return replace(server, token=answer.json()["access_token"])


def test_nothing_but_health_is_open(secured: Server) -> None:
    assert secured.get("/auth/").json()["enabled"] is True
    tree = secured.get("/openapi.json").json()
    open_to_all = set()
    with secured.client as client:
        for path, methods in tree["paths"].items():
            for method in methods:
                answer = client.request(method, path.replace("{", "").replace("}", ""))
                if answer.status_code != 401:
                    open_to_all.add(path)
    assert open_to_all == {"/health/live", "/health/ready", "/metrics", "/auth", "/auth/token"}


def test_a_token_is_good_until_it_is_given_back(secured: Server) -> None:
    ann = log_in(secured, "ann")
    assert ann.get("/auth/token/valid").json() == {"user": "ann"}
    assert ann.get("/v1/models").status_code == 200
    assert replace(ann, token=ann.token[:-1]).get("/v1/models").status_code == 401
    assert ann.post("/auth/logout").status_code == 200
    assert ann.get("/v1/models").status_code == 401


def test_the_cookie_of_a_login_is_for_this_server_alone(secured: Server) -> None:
    form = {"username": "ann", "password": PASSWORD}
    with secured.client as client:
        cookie = client.post("/auth/token", data=form).headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert client.get("/v1/models").status_code == 200


def test_jobs_are_seen_by_their_owner_and_admins(secured: Server) -> None:
    ann, bob, adm = (log_in(secured, name) for name in ("ann", "bob", "adm"))
    job = ann.send(picture()).json()
    assert ann.get(f"/v1/jobs/{job['id']}").status_code == 200
    assert adm.get(f"/v1/jobs/{job['id']}").status_code == 200
    for answer in (bob.get(f"/v1/jobs/{job['id']}"), bob.delete(f"/v1/jobs/{job['id']}"),
                   bob.get(f"/v1/jobs/{job['id']}/events")):  # fmt: skip
        assert answer.status_code == 404
    assert bob.get("/v1/jobs").json()["jobs"] == []
    session = ann.put("/session/", files={"files": ("a.png", picture())}).json()["session_id"]
    assert bob.get(f"/session/{session}").status_code == 404
    assert ann.get(f"/session/{session}").status_code == 200


def test_a_reader_sends_nothing_and_only_an_admin_reads_the_log(secured: Server) -> None:
    eve, ann, adm = (log_in(secured, name) for name in ("eve", "ann", "adm"))
    assert eve.get("/info/").status_code == 200
    assert eve.send(picture()).status_code == 403
    assert eve.post("/infer/nuclei?image=x").status_code == 403
    assert ann.get("/logs").status_code == 403
    lines = [json.loads(line) for line in adm.get("/logs").text.splitlines()]
    assert {"login"} <= {line["action"] for line in lines}
    assert "ann" in {line["user"] for line in lines}


def test_a_removed_user_is_out_at_once(secured: Server, users: UserFile) -> None:
    users.add("tom", PASSWORD, "user")
    tom = log_in(secured, "tom")
    assert tom.get("/v1/models").status_code == 200
    users.remove("tom")
    assert tom.get("/v1/models").status_code == 401


def test_a_login_is_a_small_form(secured: Server) -> None:
    form = {"username": "ann", "password": PASSWORD}
    large = secured.post("/auth/token", data={**form, "more": "x" * 20_000})
    assert large.status_code == 413
    with_file = secured.post("/auth/token", data=form, files={"file": ("a", b"x")})
    assert with_file.status_code == 422
    assert "application/x-www-form-urlencoded" in with_file.json()["detail"]
    assert secured.post("/auth/token", content=b"\xff" * 10).status_code == 422


def test_spaces_belong_to_a_password(secured: Server, users: UserFile) -> None:
    users.add("kim", f" {PASSWORD} ", "reader")
    assert log_in(secured, "kim", f" {PASSWORD} ").get("/v1/models").status_code == 200


def test_guessing_is_slowed_down(secured: Server) -> None:
    """The last of this file: from then on this address has to wait."""
    form = {"username": "ann", "password": "wrong horse"}
    statuses = [secured.post("/auth/token", data=form).status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    answer = secured.post("/auth/token", data={**form, "password": PASSWORD})
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 300
    assert Path(secured.state / "audit.log").read_text().count('"refused"') == 5
