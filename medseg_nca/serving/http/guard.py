"""What every request passes: where it comes from, how much it sends, and what answers carry."""

from __future__ import annotations

import json
import logging
import traceback
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medseg_nca.serving.errors import Refused
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.security.listening import is_loopback

logger = logging.getLogger(__name__)

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# Bytes beyond the limit that are still taken and thrown away, so that the client reads the answer
# and not that its connection was cut.
_DRAIN = 64 * 2**20
_DIGITS = 18  # of a length; Python refuses to read thousands
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy",
     b"default-src 'none'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"),
)  # fmt: skip


class Guard:
    """The outermost layer of the application.

    Args:
        app: all else.
        body_bytes: that a request may have, told or not.
        host: that the server listens on; where ``open_to_all``, no other name of this machine is
            answered, so that a web page elsewhere cannot reach it by a name of its own.
        open_to_all: whether nobody has to log in.
        metrics: count the answers.
    """

    def __init__(
        self, app: ASGIApp, *, body_bytes: int, host: str, open_to_all: bool, metrics: Metrics
    ) -> None:
        self._app, self._most, self._metrics = app, body_bytes, metrics
        self._host, self._open = host, open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, answer = _Body(receive, self._most), _Answer(send, self._metrics)
        try:
            headers = {key.decode("latin-1"): value.decode("latin-1")
                       for key, value in scope["headers"]}  # fmt: skip
            refusal = self._refusal(scope["method"], headers)
            if refusal is not None:
                await body.drain()
                await _refuse(answer, refusal)
                return
            await self._app(scope, body.receive, answer.send)
        except Exception as error:
            logger.error("A request failed: %s in %s.", type(error).__name__, _place(error))
            if not answer.begun:
                await _refuse(answer, Refused(500, "The server has a fault."))

    def _refusal(self, method: str, headers: dict[str, str]) -> Refused | None:
        host = headers.get("host", "")
        name = _name(host)
        if self._open and is_loopback(self._host) and not is_loopback(name):
            return Refused(421, "This server answers only to names of this machine.")
        origin = headers.get("origin")
        if method not in _SAFE and (
            (origin is not None and origin.partition("://")[2] != host)
            or headers.get("sec-fetch-site") == "cross-site"
        ):
            return Refused(403, "Pages of other servers may not send anything here.")
        length = headers.get("content-length", "0")
        if length.isdecimal() and (len(length) > _DIGITS or int(length) > self._most):
            return _too_large(self._most)
        return None


class _Body:
    """Counts what comes in."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most, self._size = receive, most, 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            if self._size > self._most:
                if message.get("more_body"):
                    await self.drain()
                raise _too_large(self._most)
        return message

    async def drain(self) -> None:
        left = _DRAIN
        while left > 0:
            message = await self._receive()
            left -= len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body"):
                return


class _Answer:
    """Adds headers to an answer, and counts it."""

    def __init__(self, send: Send, metrics: Metrics) -> None:
        self._send, self._metrics, self.begun = send, metrics, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            self._metrics.count("requests_total", status=f"{message['status'] // 100}xx")
            there = {key.lower() for key, _ in message.get("headers", ())}
            more = [(key, value) for key, value in _HEADERS if key not in there]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await self._send(message)


def _name(host: str) -> str:
    """Without the port; "" for what is no name."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _too_large(most: int) -> Refused:
    return Refused(
        413, f"The request has more than {most:,} bytes.",
        hint="Send a smaller image, or ask who runs the server for more (--max-body).",
    )  # fmt: skip


async def _refuse(answer: _Answer, refusal: Refused) -> None:
    text = json.dumps({"detail": refusal.message, "hint": refusal.hint}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
    start = {"type": "http.response.start", "status": refusal.status, "headers": headers}
    await answer.send(start)
    await answer.send({"type": "http.response.body", "body": text})


def _place(error: Exception) -> str:
    """Where a fault lies; the text of an error may hold what a client sent."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in frames[::-1][:6])
