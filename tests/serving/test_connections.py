"""Connections that bring no request, and addresses that somebody made up: a running server."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from medseg_nca.serving.security.users import UserFile
from tests.serving.running import PATIENCE, Server, start

pytest.importorskip(
    "argon2", reason="argon2-cffi is not installed: pip install 'medseg-nca[serve]'"
)
PASSWORD = "correct horse"
SECONDS = 4.0
# On Linux all of 127.0.0.0/8 is this machine, so that clients of several addresses can be had.
PROXY, ELSEWHERE = "127.0.0.2", "127.0.0.3"


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("connections")
    UserFile(folder / "users.json").add("ann", PASSWORD, "user")
    found = start(
        folder, "--models", "zoo:nuclei", "--users", str(folder / "users.json"),
        "--trust-proxy", PROXY, "--header-seconds", str(SECONDS),
    )  # fmt: skip
    until_live(found)
    yield found
    assert found.stop() == 0, found.log.read_text()


def until_live(server: Server) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.process.poll() is None:
        try:
            if server.get("/health/live").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(server.log.read_text())


def connect(server: Server) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port), PATIENCE)


def answer_of(connection: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    found = b""
    while chunk := connection.recv(4096):
        found += chunk
    return found


def trickle(connection: socket.socket, seconds: float) -> float:
    """Send a header without end, slowly; returns after how many seconds the server had enough."""
    begun = time.monotonic()
    connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nx: ")
    while time.monotonic() - begun < seconds:
        try:
            connection.sendall(b"a")
        except OSError:
            break
        time.sleep(0.2)
    return time.monotonic() - begun


def test_a_header_that_trickles_is_answered_408_in_time(listening: Server) -> None:
    with connect(listening) as connection:
        assert trickle(connection, 60) < 40
    with connect(listening) as connection:
        begun = time.monotonic()
        connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: local")
        answer = answer_of(connection)
        assert time.monotonic() - begun >= SECONDS - 0.5
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not come in time" in answer


def test_who_says_nothing_is_left(listening: Server) -> None:
    with connect(listening) as connection:
        assert answer_of(connection) == b""


def test_who_says_nothing_more_is_left(listening: Server) -> None:
    """A second request that trickles, and a body that was refused and goes on without end."""
    request = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with connect(listening) as connection:
        connection.sendall(request + b"GET / HTTP/1.1\r\nx: ")
        answer = answer_of(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 20_000, b"431"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 what TLS begins with\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_request_is_refused(listening: Server, sent: bytes, status: bytes) -> None:
    with connect(listening) as connection:
        try:
            connection.sendall(sent)
        except OSError:  # the server has seen enough
            assert status == b"431"
        assert answer_of(connection).startswith(b"HTTP/1.1 " + status)


def test_many_that_wait_keep_nobody_out(listening: Server) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(connect(listening)) for _ in range(250)]
        for number, connection in enumerate(held):
            if number % 2:
                connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: local")
        for _ in range(5):
            begun = time.monotonic()
            assert listening.get("/health/live").status_code == 200
            assert time.monotonic() - begun < SECONDS
        # The 100 that came last are still waited for; the others were closed for them.
        held[0].settimeout(PATIENCE)
        assert held[0].recv(1) == b""


def log_in(server: Server, address: str, forwarded: str, password: str, scheme: str = "https"):  # type: ignore[no-untyped-def]
    transport = httpx.HTTPTransport(local_address=address)
    headers = {"X-Forwarded-For": forwarded, "X-Forwarded-Proto": scheme}
    with httpx.Client(transport=transport, base_url=server.url, timeout=PATIENCE) as client:
        form = {"username": "ann", "password": password}
        return client.post("/auth/token", data=form, headers=headers)


def test_only_a_trusted_proxy_says_who_asks(listening: Server) -> None:
    """Each wrong try has another forged address; what counts is where it came from."""
    tries = [log_in(listening, ELSEWHERE, f"10.0.0.{n}", "wrong horse") for n in range(6)]
    assert [answer.status_code for answer in tries] == [401] * 5 + [429]
    assert log_in(listening, ELSEWHERE, "10.0.0.99", PASSWORD).status_code == 429
    # The proxy's word is taken: its clients have addresses of their own, and are limited by them.
    tries = [log_in(listening, PROXY, "10.9.9.9", "wrong horse") for _ in range(6)]
    assert [answer.status_code for answer in tries] == [401] * 5 + [429]
    # What a client wrote itself stands before what the proxy adds.
    forged = log_in(listening, PROXY, "10.1.1.1, 10.9.9.9", PASSWORD)
    assert forged.status_code == 429
    good = log_in(listening, PROXY, "10.1.1.1", PASSWORD)
    assert good.status_code == 200
    assert "secure" in good.headers["set-cookie"].lower()
    plain = log_in(listening, PROXY, "10.1.1.1", PASSWORD, "http")
    assert "secure" not in plain.headers["set-cookie"].lower()
    direct = log_in(listening, "127.0.0.4", "10.1.1.1", PASSWORD)
    assert direct.status_code == 200
    assert "secure" not in direct.headers["set-cookie"].lower()


def test_the_log_of_the_server_is_quiet(listening: Server) -> None:
    assert "Traceback" not in Path(listening.log).read_text()
