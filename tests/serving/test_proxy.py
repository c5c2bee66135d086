"""A DICOMweb server behind ours: what clients reach of it, and what neither side sees."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from medseg_nca.serving.errors import Refused
from medseg_nca.serving.proxy.resources import resource_of
from medseg_nca.serving.proxy.rewriting import AddressRewriter
from medseg_nca.serving.security.users import UserFile
from tests.serving.running import Server, start
from tests.serving.test_login import PASSWORD, log_in
from tests.serving.upstream import (
    ADDRESSES,
    BODY,
    BROKEN,
    ELSEWHERE,
    ENDLESS,
    FAULTY,
    LOCKED,
    MISSING,
    SLOW,
    Misbehaving,
    misbehaving,
)
from tests.tracking.tiny import save_tiny

UID = "1.2.840.113619.2.5"
STUDY = f"studies/{UID}"
INSTANCE = f"{STUDY}/series/{UID}/instances/{UID}"
PACS_LOGIN = {"username": "medseg", "password": "pacs-secret"}
PART = 'multipart/related; type="application/dicom"; boundary=x'


@pytest.mark.parametrize(
    ("service", "method", "path"),
    [
        ("qido", "GET", "studies"),
        ("qido", "GET", "studies/"),
        ("qido", "GET", f"{STUDY}/series"),
        ("wado", "GET", f"{STUDY}/series/{UID}/instances"),
        ("wado", "GET", f"{STUDY}/series/{UID}/metadata"),
        ("wado", "GET", INSTANCE),
        ("wado", "GET", f"{INSTANCE}/frames/1,2,3"),
        ("wado", "GET", f"{INSTANCE}/frames/1/rendered"),
        ("wado", "GET", f"{INSTANCE}/bulk/52009229/1/00289110"),
        ("stow", "POST", "studies"),
        ("wado", "POST", STUDY),
    ],
)
def test_resources_that_viewers_use(service: str, method: str, path: str) -> None:
    assert resource_of(service, method, path, "limit=1") == path.removesuffix("/")


@pytest.mark.parametrize(
    ("service", "method", "path", "status"),
    [
        ("qido", "GET", "", 404),
        ("qido", "GET", "../system", 404),
        ("wado", "GET", "studies/../../system", 404),
        ("wado", "GET", f"{STUDY}/../../instances", 404),
        ("wado", "GET", "studies/1..2", 404),
        ("wado", "GET", "studies/" + "1." * 33 + "1", 404),
        ("wado", "GET", "studies/1.2\n", 404),
        ("wado", "GET", "studies/1.2?x", 404),
        ("wado", "GET", "studies/1.2#x", 404),
        ("wado", "GET", "studies/1.2@host/series", 404),
        ("wado", "GET", "//host/studies", 404),
        ("wado", "GET", "http://host/studies", 404),
        ("wado", "GET", f"{INSTANCE}/bulk/..", 404),
        ("wado", "GET", f"{INSTANCE}/frames/x", 404),
        ("wado", "GET", "servers", 404),
        ("other", "GET", "studies", 404),
        ("stow", "POST", f"{STUDY}/series", 404),
        ("stow", "GET", "studies", 405),
        ("qido", "POST", "studies", 405),
        ("wado", "GET", f"{INSTANCE}/frames/" + "1," * 2048 + "1", 414),
    ],
)
def test_nothing_else_can_be_named(service: str, method: str, path: str, status: int) -> None:
    with pytest.raises(Refused) as refused:
        resource_of(service, method, path, "")
    assert refused.value.status == status


@pytest.mark.parametrize("query", ["PatientName=\xe9", "a=\x7f", "a=\r\nb"])
def test_a_query_is_encoded(query: str) -> None:
    with pytest.raises(Refused) as refused:
        resource_of("qido", "GET", "studies", query)
    assert refused.value.status == 400


@pytest.mark.parametrize("size", [1, 2, 7, 40, 10_000])
def test_addresses_are_replaced_wherever_an_answer_is_cut(size: int) -> None:
    rewriter = AddressRewriter("/proxy/dicom/wado")
    blocks = [rewriter.feed(BODY[at : at + size]) for at in range(0, len(BODY), size)]
    tree = json.loads(b"".join(blocks) + rewriter.end())[0]
    place = "/proxy/dicom/wado/studies/1.2.3/series/1.2.4/instances/1.2.5"
    assert tree["00081190"]["Value"] == [place]
    assert tree["00880200"]["BulkDataURI"] == f"{place}/bulk/00880200"
    assert tree["00081030"]["Value"] == ["see studies/1 at http://a.example/b"]


@pytest.fixture(scope="module")
def pacs() -> Iterator[Misbehaving]:
    with misbehaving() as found:
        yield found


@pytest.fixture(scope="module")
def served(pacs: Misbehaving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With users; its models are not waited for."""
    folder = tmp_path_factory.mktemp("proxy")
    save_tiny(folder / "tiny")
    users = UserFile(folder / "users.json")
    for name, role in (("ann", "user"), ("eve", "reader")):
        users.add(name, PASSWORD, role)  # type: ignore[arg-type]
    auth = folder / "auth.json"
    auth.write_text(json.dumps(PACS_LOGIN))
    options = ("--dicomweb-auth", str(auth), "--dicomweb-timeout", "3", "--max-body", "1")
    found = start(
        folder, "--models", str(folder / "tiny"), "--users", str(users.path), "--studies", pacs.url,
        *options,
    )  # fmt: skip
    yield found
    assert found.stop() == 0, found.log.read_text()
    written = found.log.read_text() + (found.state / "audit.log").read_text()
    assert "secret" not in written
    assert UID not in written


@pytest.fixture(scope="module")
def ann(served: Server) -> Server:
    return log_in(served, "ann")


@pytest.fixture(scope="module")
def eve(served: Server) -> Server:
    return log_in(served, "eve")


def test_neither_side_sees_the_login_of_the_other(eve: Server, pacs: Misbehaving) -> None:
    headers = {"Accept": "application/dicom+json", "Cookie": f"medseg_nca={eve.token}; a=b",
               "X-Forwarded-For": "1.2.3.4", "Range": "bytes=0-1"}  # fmt: skip
    answer = eve.get(f"/proxy/dicom/qido/{STUDY}/series?limit=5&PatientID=A%20B", headers=headers)
    assert answer.status_code == 200
    asked = pacs.asked[-1]
    assert asked.path == f"/dicom-web/{STUDY}/series?limit=5&PatientID=A%20B"
    assert asked.headers["accept"] == "application/dicom+json"
    assert asked.headers["authorization"].startswith("Basic ")
    assert eve.token not in json.dumps(dict(asked.headers))
    assert not {"cookie", "range", "x-forwarded-for"} & set(asked.headers)
    assert not {"www-authenticate", "set-cookie", "server", "x-inside"} & set(answer.headers)
    assert answer.headers["cache-control"] == "no-store"


def test_roles(served: Server, eve: Server, ann: Server, pacs: Misbehaving) -> None:
    sent = {"content": b"--x--", "headers": {"Content-Type": PART}}
    assert served.get("/proxy/dicom/qido/studies").status_code == 401
    assert served.post("/proxy/dicom/stow/studies", **sent).status_code == 401
    assert eve.post("/proxy/dicom/stow/studies", **sent).status_code == 403
    assert ann.post("/proxy/dicom/stow/studies", **sent).status_code == 200
    assert (pacs.asked[-1].method, pacs.asked[-1].body) == ("POST", b"--x--")
    assert pacs.asked[-1].headers["content-type"] == PART
    wrong = ann.post("/proxy/dicom/stow/studies", content=b"{}")
    assert wrong.status_code == 415
    large = ann.post("/proxy/dicom/stow/studies", content=bytes(1_500_000), headers=sent["headers"])
    assert large.status_code == 413


def test_odd_letters_are_no_fault(ann: Server) -> None:
    path = "/proxy/dicom/qido/studies"
    assert ann.get(path, headers={"Accept": b"\xe9/json"}).status_code == 400
    assert ann.get(f"{path}?PatientName=%C3%A9%00&x=%zz&{'<>' * 9}").status_code == 200
    assert ann.get(f"{path}?x={'x' * 9000}").status_code == 414


@pytest.mark.parametrize(
    "path", ["%2e%2e/system", "studies/%2e%2e/%2e%2e/system", "studies/..%2f..%2fsystem", "system"]
)
def test_no_other_place_of_the_server_is_reached(ann: Server, pacs: Misbehaving, path: str) -> None:
    before = len(pacs.asked)
    answer = ann.get(f"/proxy/dicom/wado/{path}")
    assert answer.status_code == 404
    assert answer.json()["hint"]
    assert len(pacs.asked) == before
    assert ann.put("/proxy/dicom/wado/studies").status_code == 405


@pytest.mark.parametrize(
    ("study", "status"),
    [(SLOW, 504), (ELSEWHERE, 502), (LOCKED, 502), (MISSING, 404), (FAULTY, 502)],
    ids=["slow", "elsewhere", "locked", "missing", "faulty"],
)
def test_faults_of_the_server(ann: Server, pacs: Misbehaving, study: str, status: int) -> None:
    answer = ann.get(f"/proxy/dicom/wado/studies/{study}/metadata")
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert "www-authenticate" not in answer.headers
    assert str(pacs.port) not in answer.text
    assert "secret" not in answer.text


def test_an_answer_that_breaks_off_does_not_look_whole(ann: Server) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        ann.get(f"/proxy/dicom/wado/studies/{BROKEN}/metadata")


def test_addresses_lead_here(ann: Server) -> None:
    text = ann.get(f"/proxy/dicom/wado/studies/{ADDRESSES}/metadata").text
    assert "localhost" not in text
    assert "10.0.0.7" not in text
    assert '"/proxy/dicom/wado/studies/1.2.3/' in text


@pytest.mark.parametrize("study", [ENDLESS, SLOW], ids=["while it comes", "before it comes"])
def test_a_client_that_leaves_frees_the_server(ann: Server, pacs: Misbehaving, study: str) -> None:
    pacs.left.clear()
    path = f"/proxy/dicom/wado/studies/{study}"
    with ann.client as client:
        if study == ENDLESS:
            with client.stream("GET", path) as answer:
                assert len(next(answer.iter_raw(1000))) == 1000
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.get(path, timeout=0.5)
    begun = time.monotonic()
    assert pacs.left.wait(30)
    assert study == ENDLESS or time.monotonic() - begun < 2, (
        "it was the limit of time that ended it"
    )


def test_an_audit_log_that_cannot_be_written_costs_no_connection(ann: Server) -> None:
    """Images that nobody could be told of are not shown, and 16 such requests end nothing."""
    path = f"/proxy/dicom/wado/studies/{ADDRESSES}/metadata"
    log, aside = ann.state / "audit.log", ann.state / "audit.aside"
    log.rename(aside)
    log.mkdir()
    try:
        assert {ann.get(path).status_code for _ in range(17)} == {500}
    finally:
        log.rmdir()
        aside.rename(log)
    assert ann.get(path).status_code == 200


def test_who_fetches_whole_objects_is_in_the_audit_log(eve: Server) -> None:
    def outcomes(path: str) -> list[str]:
        before = (eve.state / "audit.log").read_text().splitlines()
        assert eve.get(f"/proxy/dicom/wado/{path}").status_code == 200
        after = (eve.state / "audit.log").read_text().splitlines()
        return [json.loads(line)["outcome"] for line in after[len(before) :]]

    series = f"{STUDY}/series/{UID}"
    for path in (STUDY, series, INSTANCE):
        assert outcomes(path) == ["fetched"], path
    for path in (f"{series}/metadata", f"{INSTANCE}/frames/1/rendered"):
        assert outcomes(path) == ["viewed"], path
    for path in ("studies", f"{STUDY}/series", f"{series}/instances", f"{INSTANCE}/frames/1"):
        assert outcomes(path) == [], path


def test_credentials_that_are_broken_are_no_fault_of_the_client(ann: Server) -> None:
    auth = ann.state.parent / "auth.json"
    before = auth.read_text()
    auth.write_text("{")
    try:
        answer = ann.get("/proxy/dicom/qido/studies")
    finally:
        auth.write_text(before)
    assert answer.status_code == 502
    assert "auth.json" not in answer.text


def test_images_in_a_folder_are_not_there(server: Server) -> None:
    assert server.get("/proxy/dicom/qido/studies").status_code == 404
