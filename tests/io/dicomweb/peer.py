"""A DICOMweb server that does what a test wants, right or wrong."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BOUNDARY = "a-boundary"
PARTS = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


class Peer:
    """What it is asked, and how it answers.

    Attributes:
        url: the base of its addresses.
        asked: method, path and headers of each request.
        answer: called with the handler of a request; it writes the answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: reply(handler, 404)

    def searches(self) -> int:
        return sum("?" in path for _, path, _ in self.asked)

    def fetches(self) -> int:
        return sum(method == "GET" and "?" not in path for method, path, _ in self.asked)


@contextmanager
def peer(tls: ssl.SSLContext | None = None) -> Iterator[Peer]:
    """Run one on a port of its own, perhaps with TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            found.asked.append((self.command, self.path, dict(self.headers)))
            found.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            try:
                found.answer(self)
            except OSError:
                self.close_connection = True

        do_GET = do_POST = _do  # noqa: N815

        def log_message(self, *what: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "http" if tls is None else "https"
    found = Peer(f"{scheme}://127.0.0.1:{server.server_port}/dicom-web")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    """Answer as a whole."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def listed(*series: dict[str, Any]) -> bytes:
    """An answer to a search: ``uid``, ``study``, ``modality`` and ``count`` of each series."""
    tags = {"uid": "0020000E", "study": "0020000D", "modality": "00080060", "count": "00201209"}
    tree = [
        {tags[name]: {"vr": "UI", "Value": [value]} for name, value in one.items()}
        for one in series
    ]
    return json.dumps(tree).encode()


def parts(paths: list[Path], kind: str = "application/dicom") -> bytes:
    """A body of several files, as Orthanc writes it."""
    head = f"\r\n--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n".encode()
    return b"".join(head + path.read_bytes() for path in paths) + f"\r\n--{BOUNDARY}--\r\n".encode()
