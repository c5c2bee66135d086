"""Connections that are bounded in time and size before a request is there, and after its answer.

uvicorn waits without end for the headers of a request, and for a client that takes nothing of its
answer. Whoever opens connections and sends nothing, a byte at a time, or reads nothing, would hold
all that the server has.
"""

from __future__ import annotations

import asyncio
import json
import sys
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# Bytes of the headers of one request.
MOST_HEADER = 16 * 1024
# Connections that wait for a request; for another one the one that waits longest is closed.
MOST_WAITING = 100
# Seconds for the rest of a body that was refused: its client reads the answer only after it.
_REST = 60.0
# Seconds for which a client may take nothing of its answer, while more of it waits.
UNREAD = 60.0
# Seconds within which a client has to take the last answer.
_FLUSH = 2.0


class Waiting:
    """The connections on which no request is at work, the one that waits longest first.

    Args:
        seconds: that a connection may wait for the whole headers of a request.
        most: connections that may wait at a time.
    """

    def __init__(self, seconds: float, most: int = MOST_WAITING) -> None:
        self._seconds, self._most = seconds, most
        self._timers: dict[BoundedConnection, asyncio.TimerHandle] = {}

    def begin(self, connection: BoundedConnection, seconds: float | None = None) -> None:
        """Note that a connection waits, and close it if it still does after some seconds."""
        self.end(connection)
        if len(self._timers) >= self._most:
            self._close(next(iter(self._timers)))
        self._timers[connection] = connection.loop.call_later(
            seconds or self._seconds, self._close, connection
        )

    def end(self, connection: BoundedConnection) -> None:
        """Note that a connection waits no longer."""
        timer = self._timers.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def _close(self, connection: BoundedConnection) -> None:
        self.end(connection)
        connection.give_up()


class BoundedConnection(H11Protocol):
    """uvicorn's connection, which waits for a request, and for its client to read, only so long.

    Args:
        waiting: the connections of the server that wait.
        unread: seconds for which a client may take nothing of its answer, while more of it waits.
        **uvicorn: see uvicorn.
    """

    def __init__(self, *, waiting: Waiting, unread: float = UNREAD, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._waiting, self._unread = waiting, unread
        self._reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._waiting.begin(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._waiting.end(self)
        self._client_reads()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait for the client, which does not read as fast as the answer comes."""
        super().pause_writing()
        self._client_reads()
        self._reading = self.loop.call_later(self._unread, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        self._client_reads()
        super().resume_writing()

    def handle_events(self) -> None:
        """Take what came; whole headers end the waiting."""
        super().handle_events()
        if self._at_work:
            self._waiting.end(self)

    def on_response_complete(self) -> None:
        """Wait for the next request, if it is not there already."""
        super().on_response_complete()
        if not self._at_work and not self.transport.is_closing():
            rest = _REST if self.conn.their_state is h11.SEND_BODY else None
            self._waiting.begin(self, rest)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request: 431 where its headers are too long."""
        error = sys.exception()
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431:
            self._refuse(431, f"The headers have more than {MOST_HEADER:,} bytes.")
        else:
            self._refuse(400, msg)

    def give_up(self) -> None:
        """End the connection: with 408 where a request was begun, silently where none was."""
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(408, "The headers of the request did not come in time.")
        else:
            self._end()

    def _client_reads(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    @property
    def _at_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: int, detail: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"detail": detail, "hint": None}).encode()
            headers = [
                (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)),
                (b"connection", b"close"),
            ]  # fmt: skip
            start = h11.Response(
                status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()
            )
            for event in (start, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self._end()

    def _end(self) -> None:
        self.transport.close()
        # A client that takes nothing, or ends TLS in no proper way, is not waited for.
        self.loop.call_later(_FLUSH, self.transport.abort)
