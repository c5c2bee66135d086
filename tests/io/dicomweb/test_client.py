"""The client against servers that do it right, wrong, slowly or without an end."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from medseg_nca.errors import ConfigError
from medseg_nca.io.dicom.remote import FetchLimits, RemoteSeries
from medseg_nca.io.dicomweb.client import DicomWebClient
from medseg_nca.io.dicomweb.errors import DicomWebError
from medseg_nca.io.dicomweb.server import DicomWebServer
from tests.io.dicom.build import classic, pixels, uid, write
from tests.io.dicomweb.peer import BOUNDARY, PARTS, Peer, listed, parts, peer, reply

SERIES = RemoteSeries(str(uid("a", "a")), str(uid("a")), "CT", 3)
ENTRY = {"uid": SERIES.uid, "study": SERIES.study_uid, "modality": "CT", "count": 3}


@pytest.fixture
def server() -> Iterator[Peer]:
    with peer() as found:
        yield found


@pytest.fixture
def client(server: Peer) -> Iterator[DicomWebClient]:
    found = DicomWebClient(DicomWebServer(server.url, timeout=1.0))
    yield found
    found.close()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write(tmp_path / "sent", classic(pixels((3, 8, 6))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "got").mkdir()
    return tmp_path / "got"


def trouble(client: DicomWebClient, folder: Path, limits: FetchLimits | None = None) -> str:
    with pytest.raises(DicomWebError) as caught:
        client.fetch(SERIES, folder, limits)
    assert SERIES.uid not in str(caught.value)
    return caught.value.trouble


def test_a_series_comes_as_it_is_stored(
    server: Peer, client: DicomWebClient, files: list[Path], folder: Path
) -> None:
    server.answer = lambda handler: reply(handler, 200, parts(files), Content_Type=PARTS)
    got = client.fetch(SERIES, folder)
    assert [path.read_bytes() for path in got] == [path.read_bytes() for path in files]
    method, path, headers = server.asked[0]
    assert (method, path) == (
        "GET", f"/dicom-web/studies/{SERIES.study_uid}/series/{SERIES.uid}",
    )  # fmt: skip
    assert headers["Accept-Encoding"] == "identity"


def test_one_file_need_not_be_wrapped(
    server: Peer, client: DicomWebClient, files: list[Path], folder: Path
) -> None:
    body = files[0].read_bytes()
    server.answer = lambda handler: reply(handler, 200, body, Content_Type="application/dicom")
    series = replace(SERIES, instances=1)
    assert [path.read_bytes() for path in client.fetch(series, folder)] == [body]


def test_a_series_that_lacks_instances_is_refused(
    server: Peer, client: DicomWebClient, files: list[Path], folder: Path
) -> None:
    """Of slices that are missing at an end nothing else would tell."""
    server.answer = lambda handler: reply(handler, 200, parts(files[:2]), Content_Type=PARTS)
    assert trouble(client, folder) == "incomplete"
    twice = parts([*files[:2], files[0]])
    server.answer = lambda handler: reply(handler, 200, twice, Content_Type=PARTS)
    assert trouble(client, folder) == "incomplete"
    assert len(client.fetch(replace(SERIES, instances=2), folder)) == 3
    assert len(client.fetch(replace(SERIES, instances=None), folder)) == 3


def test_what_is_not_what_was_asked_for_is_refused(
    server: Peer, client: DicomWebClient, files: list[Path], folder: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / "other", classic(pixels((1, 8, 6)), series="b"))
    whole = parts(files)
    answers = {
        "another series": (parts([*files, *other]), PARTS),
        "no dicom": (parts(files, "text/html"), PARTS),
        "junk in parts": (whole.replace(b"DICM", b"JUNK"), PARTS),
        "a page": (b"<html>", "text/html"),
        "cut": (whole[:-20], PARTS),
        "no boundary": (b"x" * 10_000, PARTS),
        "headers without an end": (f"--{BOUNDARY}\r\nX: ".encode() + b"x" * 50_000, PARTS),
        "packed": (gzip.compress(whole), PARTS),
    }
    for name, (body, kind) in answers.items():
        more = {"Content_Encoding": "gzip"} if name == "packed" else {}

        def answer(
            handler: BaseHTTPRequestHandler, body: bytes = body, kind: str = kind,
            more: dict[str, str] = more,
        ) -> None:  # fmt: skip
            reply(handler, 200, body, Content_Type=kind, **more)

        server.answer = answer
        assert trouble(client, folder) == "wrong", name
        server.asked.clear()


def test_a_server_without_an_end_fills_nothing(
    server: Peer, client: DicomWebClient, files: list[Path], folder: Path
) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", PARTS)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(parts(files[:1])[: -len(BOUNDARY) - 8])
        while True:
            handler.wfile.write(b"\0" * 65_536)

    server.answer = endless
    assert trouble(client, folder, FetchLimits(bytes=1_000_000)) == "too-large"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 1_000_000
    server.answer = lambda handler: reply(handler, 200, parts(files * 5), Content_Type=PARTS)
    assert trouble(client, folder, FetchLimits(instances=10)) == "too-large"
    assert len(list(folder.iterdir())) <= 10


def test_a_slow_server_is_given_up(
    server: Peer, client: DicomWebClient, files: list[Path], folder: Path
) -> None:
    def silent(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(2.5)

    def dripping(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", PARTS)
        handler.send_header("Connection", "close")
        handler.end_headers()
        for byte in parts(files):
            handler.wfile.write(bytes([byte]))
            time.sleep(0.05)

    for answer in (silent, dripping):
        server.answer, began = answer, time.monotonic()
        assert trouble(client, folder, FetchLimits(seconds=1.0)) == "slow"
        assert time.monotonic() - began < 20


def test_a_broken_connection_is_tried_again(
    server: Peer, client: DicomWebClient, files: list[Path], folder: Path
) -> None:
    def twice_broken(handler: BaseHTTPRequestHandler) -> None:
        if len(server.asked) < 2:
            handler.connection.shutdown(socket.SHUT_RDWR)
        elif len(server.asked) < 3:
            handler.send_response(200)
            handler.send_header("Content-Type", PARTS)
            handler.send_header("Content-Length", str(len(parts(files))))
            handler.end_headers()
            handler.wfile.write(parts(files)[:3000])
            handler.connection.shutdown(socket.SHUT_RDWR)
        else:
            reply(handler, 200, parts(files), Content_Type=PARTS)

    server.answer = twice_broken
    assert len(client.fetch(SERIES, folder)) == 3
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "expected", "times"),
    [(401, "unauthorised", 1), (403, "unauthorised", 1), (404, "missing", 1), (302, "wrong", 1),
     (400, "wrong", 1), (500, "faulty", 1), (503, "busy", 3), (504, "slow", 1)],
)  # fmt: skip
def test_statuses(
    server: Peer, client: DicomWebClient, folder: Path, status: int, expected: str, times: int
) -> None:
    server.answer = lambda handler: reply(handler, status, Location="http://127.0.0.1:1/elsewhere")
    assert trouble(client, folder) == expected
    assert len(server.asked) == times


def test_the_list_has_images_alone_and_an_end(server: Peer, client: DicomWebClient) -> None:
    entries = [
        ENTRY, {**ENTRY, "uid": "1.2.3", "modality": "SEG"}, {**ENTRY, "uid": "../../etc"},
        {**ENTRY, "uid": "1.02.4", "count": "many"}, {"uid": "1.2.5"},
    ]  # fmt: skip
    server.answer = lambda handler: reply(handler, 200, listed(*entries))
    assert client.all_series() == (SERIES, RemoteSeries("1.02.4", SERIES.study_uid, "CT", None))
    assert server.searches() == 1
    page = [{**ENTRY, "uid": f"1.2.{number}"} for number in range(500)]
    server.answer = lambda handler: reply(handler, 200, listed(*page))
    assert len(client.all_series()) == 500  # it knows no pages, and sends the same again
    assert client.find_series("1.2.9999") is None  # it passes over what it is asked for
    server.answer = lambda handler: reply(handler, 204)
    assert client.all_series() == ()
    server.answer = lambda handler: reply(handler, 404)  # not the address of DICOMweb
    with pytest.raises(DicomWebError, match="no search") as caught:
        client.find_series("1.2.3")
    assert caught.value.trouble == "wrong"
    for body in (b"{}", b"[" * 100_000, b"<html>"):
        server.answer = lambda handler, body=body: reply(handler, 200, body)
        with pytest.raises(DicomWebError) as caught:
            client.all_series()
        assert caught.value.trouble == "wrong"


def test_an_entry_that_is_none_does_not_end_the_list(server: Peer, client: DicomWebClient) -> None:
    entries = [{**ENTRY, "uid": f"1.2.{number}"} for number in range(700)]
    entries[3] = {"uid": "no series"}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        query = parse_qs(urlsplit(handler.path).query)
        start = int(query["offset"][0])
        reply(handler, 200, listed(*entries[start : start + int(query["limit"][0])]))

    server.answer = answer
    assert len(client.all_series()) == 699
    assert server.searches() == 2


def test_no_text_that_is_no_uid_is_asked_for(server: Peer, client: DicomWebClient) -> None:
    for text in ("", "..", "1.2/../3", "1.2&x=1", "1." * 40 + "1", "1.2\r\nX: 1"):
        assert client.find_series(text) is None
    assert not server.asked


def test_what_the_server_refuses_to_store_is_told(
    server: Peer, client: DicomWebClient, files: list[Path]
) -> None:
    def refusing(reason: int) -> bytes:
        item = {"00081155": {"Value": ["1.2.3"]}, "00081197": {"Value": [reason]}}
        return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()

    server.answer = lambda handler: reply(handler, 409, refusing(0xA900))
    assert client.store(files).refused == {"1.2.3": 0xA900}
    assert all(path.read_bytes() in server.bodies[0] for path in files)
    server.answer = lambda handler: reply(handler, 202, refusing(0x0111))
    assert client.store(files).refused == {}  # it has it already
    for body in (b"", b"{}"):
        server.answer = lambda handler, body=body: reply(handler, 409, body)
        with pytest.raises(DicomWebError, match="does not say why"):
            client.store(files)
    server.answer = lambda handler: reply(handler, 200)
    assert client.store(files).refused == {}


def test_credentials_come_from_a_file_or_the_environment(
    server: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "auth.json"
    path.write_text('{"username": "änn", "password": "a:b"}', encoding="utf-8")
    client = DicomWebClient(DicomWebServer(server.url, path))
    server.answer = lambda handler: reply(handler, 200, b"[]")
    client.all_series()
    path.write_text('{"token": "abc"}')  # renewed meanwhile
    client.all_series()
    client.close()
    monkeypatch.setenv("MEDSEG_NCA_DICOMWEB_TOKEN", "xyz")
    client = DicomWebClient(DicomWebServer(server.url))
    client.all_series()
    client.close()
    sent = [headers["Authorization"] for _, _, headers in server.asked]
    assert base64.b64decode(sent[0].removeprefix("Basic ")) == "änn:a:b".encode()
    assert sent[1:] == ["Bearer abc", "Bearer xyz"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"user": "x"}', '{"username": "x"}', '{"token": "a", "username": "b"}',
     '{"token": 1}', '{"token": "a\\r\\nb"}', '{"username": "s:ecret", "password": "secret"}',
     '{"secret": '],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "auth.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        DicomWebServer("http://127.0.0.1/x", path).headers()
    assert str(path) in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://ann:secret@pacs/dicom-web", "https://ann@pacs", "ftp://pacs", "https://", "pacs",
     "http://pacs:99999999/", "https://pacs/dicom-web?token=secret", "https://[pacs"],
)  # fmt: skip
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DicomWebServer(url)
    assert "secret" not in str(caught.value)
    assert caught.value.hint


def test_a_certificate_is_checked_against_the_authority_that_is_named(tmp_path: Path) -> None:
    openssl = shutil.which("openssl") or pytest.skip("openssl is not installed")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command, *names, *files], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with peer(context) as server:
        server.answer = lambda handler: reply(handler, 200, b"[]")
        client = DicomWebClient(DicomWebServer(server.url, ca=cert))
        assert client.all_series() == ()
        client.close()
        client = DicomWebClient(DicomWebServer(server.url))
        with pytest.raises(DicomWebError, match="certificate that is not trusted"):
            client.all_series()
        client.close()
        assert len(server.asked) == 1
    (tmp_path / "junk.pem").write_text("junk")
    with pytest.raises(ConfigError, match=r"junk\.pem"):
        DicomWebClient(DicomWebServer("https://127.0.0.1", ca=tmp_path / "junk.pem"))
