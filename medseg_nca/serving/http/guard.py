"""What every request passes: where it comes from, how much it sends, and what answers carry."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from collections.abc import Callable
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
# Bytes a second that a body brings at least, once patience is over.
_SLOWEST = 1024
# Seconds between two looks at whether the server stops, while a body is waited for.
_LOOK = 0.5
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
        stopping: whether the server stops; nothing more of a body is waited for then.
        patience: seconds that a body may stand still before its connection is ended. All waiting
            for one body is bounded too: by that, and a second more for each 1,024 bytes that came.
    """

    def __init__(
        self, app: ASGIApp, *, body_bytes: int, host: str, open_to_all: bool, metrics: Metrics,
        stopping: Callable[[], bool] = lambda: False, patience: float = 30.0,
    ) -> None:  # fmt: skip
        self._app, self._most, self._metrics = app, body_bytes, metrics
        self._stopping, self._patience = stopping, patience
        self._host, self._open = host, open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, self._most, self._stopping, self._patience)
        answer = _Answer(send, self._metrics, body)
        try:
            headers = {key.decode("latin-1"): value.decode("latin-1")
                       for key, value in scope["headers"]}  # fmt: skip
            refusal = self._refusal(scope["method"], headers)
            if refusal is not None:
                await body.drain()
                await _refuse(answer, refusal)
                return
            await self._app(scope, body.receive, answer.send)
        except Refused as refusal:  # of a body, where no route took it
            if not answer.begun:
                await _refuse(answer, refusal)
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

    def __init__(
        self, receive: Receive, most: int, stopping: Callable[[], bool], patience: float
    ) -> None:
        self._receive, self._most, self._size = receive, most, 0
        self.stopping, self._patience, self._waited = stopping, patience, 0.0
        self.whole = False

    async def receive(self) -> Message:
        """Raises Refused: 413 beyond the limit, 408 where nothing comes, 503 while it stops."""
        message = await self._next()
        if message["type"] == "http.request" and self._size > self._most:
            if message.get("more_body"):
                await self.drain()
            raise _too_large(self._most)
        return message

    async def _next(self) -> Message:
        if self.whole:  # what comes now is that the client left, whenever that may be
            return await self._receive()
        begun = time.monotonic()
        try:
            return await self._awaited(begun)
        finally:
            self._waited += time.monotonic() - begun

    async def _awaited(self, begun: float) -> Message:
        left = self._patience + self._size / _SLOWEST - self._waited
        end = begun + min(self._patience, left)
        while True:
            try:
                async with asyncio.timeout(_LOOK):
                    message = await self._receive()
            except TimeoutError:
                if self.stopping():
                    raise Refused(503, "The server is stopping.", retry_after=30) from None
                if time.monotonic() > end:
                    raise Refused(408, "The rest of the request did not come.") from None
                continue
            self._size += len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
            if not self.whole and self.stopping():
                raise Refused(503, "The server is stopping.", retry_after=30)
            if not self.whole and time.monotonic() > end:
                raise Refused(408, "The request comes too slowly.")
            return message

    async def drain(self) -> None:
        left = _DRAIN
        while left > 0:
            message = await self._next()
            left -= len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body"):
                return


class _Answer:
    """Adds headers to an answer, and counts it."""

    def __init__(self, send: Send, metrics: Metrics, body: _Body) -> None:
        self._send, self._metrics, self._body, self.begun = send, metrics, body, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            self._metrics.count("requests_total", status=f"{message['status'] // 100}xx")
            there = {key.lower() for key, _ in message.get("headers", ())}
            more = [(key, value) for key, value in _HEADERS if key not in there]
            if not self._body.whole and (message["status"] == 408 or self._body.stopping()):
                # What comes of the body is not read. Elsewhere the connection throws it away: a
                # client whose connection is cut while it sends would not see the answer.
                more.append((b"connection", b"close"))
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
