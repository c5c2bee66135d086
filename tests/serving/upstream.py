"""A DICOMweb server that does what a test says: slow, elsewhere, endless; and notes what it got.

Orthanc is the real peer (``tests/orthanc.py``); this one does what Orthanc cannot be brought to do.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What it does is said by the last number of the study.
SLOW, ELSEWHERE, LOCKED, BROKEN, ENDLESS, ADDRESSES, MISSING, FAULTY = (
    f"1.2.{n}" for n in range(8)
)
PATIENCE = 60.0


@dataclass
class Asked:
    """A request that came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass
class Misbehaving:
    """The server.

    Attributes:
        port: of it, on this machine.
        asked: all requests, as they came.
        left: set when the other side has closed a connection that was being served.
    """

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"


@contextmanager
def misbehaving() -> Iterator[Misbehaving]:
    """Start it; it ends with the block."""
    about = Misbehaving()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self.note(b"")
            study = self.path.split("/")[3] if self.path.count("/") > 2 else ""
            if study == SLOW:
                self.wait_until_left()
            elif study == ENDLESS:
                self.send_endlessly()
            elif study == ELSEWHERE:
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{about.port}/dicom-web/studies")
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif study == BROKEN:
                self.answer(200, b"only this", length=1000)
                self.close_connection = True
            elif study == ADDRESSES:
                self.answer(200, BODY, kind="application/dicom+json")
            else:
                status = {LOCKED: 401, MISSING: 404, FAULTY: 500}.get(study, 200)
                self.answer(status, b'{"secret": "of the PACS"}')

        def do_POST(self) -> None:
            self.note(self.chunks())
            self.answer(200, b"{}")

        def chunks(self) -> bytes:
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        def note(self, body: bytes) -> None:
            headers = {key.lower(): value for key, value in self.headers.items()}
            about.asked.append(Asked(self.command, self.path, headers, body))

        def answer(
            self, status: int, body: bytes, length: int | None = None, kind: str = "text/plain"
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            for name in ("WWW-Authenticate", "Set-Cookie", "Server", "X-Inside"):
                self.send_header(name, "of the PACS")
            self.end_headers()
            self.wfile.write(body)

        def wait_until_left(self) -> None:
            self.connection.settimeout(PATIENCE)
            try:
                gone = self.connection.recv(1) == b""
            except OSError:
                gone = True
            if gone:
                about.left.set()
            self.close_connection = True

        def send_endlessly(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(10**12))
            self.end_headers()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
            end = time.monotonic() + PATIENCE
            try:
                while time.monotonic() < end:
                    self.wfile.write(bytes(2**16))
                    time.sleep(0.01)
            except OSError:
                about.left.set()
            self.close_connection = True

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            """Whoever leaves is what some tests are about."""

    server = Quiet(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    about.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.1,))
    thread.start()
    try:
        yield about
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_STUDY = "studies/1.2.3/series/1.2.4/instances/1.2.5"
BODY = (
    '[{"00081190": {"Value": ["http://localhost/dicom-web/' + _STUDY + '"], "vr": "UR"},'
    '"00880200": {"BulkDataURI": "http://10.0.0.7:8042/x/' + _STUDY + '/bulk/00880200",'
    '"vr": "OB"}, "00081030": {"vr": "LO", "Value": ["see studies/1 at http://a.example/b"]}}]'
).encode()
