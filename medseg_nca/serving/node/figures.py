"""The figures of a node for Prometheus, on a port of this machine alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from medseg_nca.errors import ConfigError

_PATH, _TYPE = "/metrics", "text/plain; version=0.0.4; charset=utf-8"
# Seconds that a client has to ask.
_PATIENCE = 5.0


class FiguresServer:
    """Answers GET /metrics at 127.0.0.1.

    Args:
        port: 0 for a free one.
        text: makes the answer.

    Raises:
        ConfigError: if the port cannot be had.
    """

    def __init__(self, port: int, text: Callable[[], str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = _PATIENCE

            def do_GET(self) -> None:
                body = text().encode() if self.path == _PATH else b""
                self.send_response(200 if self.path == _PATH else 404)
                self.send_header("Content-Type", _TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """No log of requests."""

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            raise ConfigError(
                f"--metrics-port {port}: cannot be used ({error.strerror}).",
                hint="Choose another port: 0 takes any that is free.",
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="figures", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
