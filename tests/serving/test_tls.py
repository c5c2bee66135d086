"""TLS of a running server, with a real certificate."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from medseg_nca.serving.security.users import UserFile
from tests.serving.certificates import write_pair
from tests.serving.running import PATIENCE, Server, start

pytest.importorskip(
    "argon2", reason="argon2-cffi is not installed: pip install 'medseg-nca[serve]'"
)
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    write_pair(folder)
    UserFile(folder / "users.json").add("ann", PASSWORD, "user")
    return folder


@pytest.fixture(scope="module")
def encrypted(folder: Path) -> Iterator[Server]:
    (folder / "settings").mkdir()
    (folder / "settings" / "serve.yaml").write_text(
        "models: zoo:nuclei\nusers: ../users.json\ntls_cert: ../cert.pem\ntls_key: ../key.pem\n"
    )
    found = start(folder, "--settings", "settings/serve.yaml", env={"MEDSEG_SERVE_QUEUE": "3"})
    yield found
    assert found.stop() == 0, found.log.read_text()
    assert "Traceback" not in found.log.read_text()


def ask(
    server: Server, trust: Path, path: str = "/health/live", form: str = "",
    context: ssl.SSLContext | None = None,
) -> tuple[str, str]:  # fmt: skip
    """Version of TLS and the answer, over a connection that trusts one certificate."""
    context = context or ssl.create_default_context(cafile=trust)
    parts = urlsplit(server.url)
    body = form.encode()
    verb = "POST" if form else "GET"
    head = (
        f"{verb} {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with (
        socket.create_connection((parts.hostname, parts.port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=parts.hostname) as secured,
    ):
        secured.sendall(head.encode() + body)
        answer = b""
        while chunk := secured.recv(65536):
            answer += chunk
        return str(secured.version()), answer.decode()


def test_https_is_served_to_who_trusts_the_certificate(encrypted: Server, folder: Path) -> None:
    assert encrypted.url.startswith("https://127.0.0.1:")
    version, answer = ask(encrypted, folder / "cert.pem")
    assert version == "TLSv1.3"
    assert answer.startswith("HTTP/1.1 200 ")
    other, _ = write_pair(folder / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(encrypted, other)


def test_the_cookie_is_for_https_alone(encrypted: Server, folder: Path) -> None:
    form = f"username=ann&password={PASSWORD.replace(' ', '+')}"
    _, answer = ask(encrypted, folder / "cert.pem", "/auth/token", form)
    head, _, body = answer.partition("\r\n\r\n")
    cookie = next(line for line in head.lower().splitlines() if line.startswith("set-cookie"))
    assert json.loads(body)["token_type"] == "bearer"
    assert "; secure" in cookie
    assert "; httponly" in cookie
    # It would also hold for other services of this host; docs/operation.md says where it belongs.
    assert "strict-transport-security" not in head.lower()


def test_plain_http_is_refused(encrypted: Server) -> None:
    parts = urlsplit(encrypted.url)
    with socket.create_connection((parts.hostname, parts.port), PATIENCE) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            answer = connection.recv(100)
        except ConnectionResetError:
            answer = b""
    assert not answer.startswith(b"HTTP")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2"])
def test_tls_before_1_2_is_refused(encrypted: Server, folder: Path, version: str) -> None:
    context = ssl.create_default_context(cafile=folder / "cert.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")  # OpenSSL's clients offer old versions only at this
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion[version]
    if version == "TLSv1_2":
        assert ask(encrypted, folder, context=context)[0] == "TLSv1.2"
        return
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(encrypted, folder, context=context)


def test_many_that_do_not_shake_hands_keep_nobody_out(encrypted: Server, folder: Path) -> None:
    parts = urlsplit(encrypted.url)
    held = [socket.create_connection((parts.hostname, parts.port), PATIENCE) for _ in range(250)]
    try:
        assert ask(encrypted, folder / "cert.pem")[1].startswith("HTTP/1.1 200 ")
    finally:
        for connection in held:
            connection.close()


def test_a_renewed_certificate_is_served_without_a_restart(encrypted: Server, folder: Path) -> None:
    """The last of this file. A pair that does not belong together changes nothing."""
    old = (folder / "cert.pem").read_bytes()
    trust = folder / "old.pem"
    trust.write_bytes(old)
    write_pair(folder / "next")
    (folder / "next" / "cert.pem").rename(folder / "cert.pem")
    time.sleep(3)
    assert ask(encrypted, trust)[1].startswith("HTTP/1.1 200 ")  # the key is still the old one
    (folder / "next" / "key.pem").rename(folder / "key.pem")
    end = time.monotonic() + 30
    while True:
        try:
            assert ask(encrypted, folder / "cert.pem")[1].startswith("HTTP/1.1 200 ")
            break
        except ssl.SSLCertVerificationError:
            assert time.monotonic() < end
            time.sleep(0.5)
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(encrypted, trust)
    log = encrypted.log.read_text()
    assert log.count("The old certificate stays") == 1
    assert "The certificate was renewed." in log
