"""The connection below an association: it tells what became of it, and it can be cut.

pynetdicom logs why a connection fails and does not tell its caller; it waits without end where a
peer takes no data; and it counts the time until an answer while it is still sending. It lets its
caller wrap the socket (for TLS), which is where this module steps in.
"""

from __future__ import annotations

import queue
import socket
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Seconds between two looks whether anything moves.
_LOOK = 0.2


class Link:
    """One connection; :meth:`cut` may be called by any thread.

    Args:
        timeout: seconds in which nothing moves, after which the peer counts as stalled.

    Attributes:
        error: the first fault of the socket.
        connected: whether TCP connected.
        secured: whether the handshake of TLS ended well.
        stalled: whether the peer was given up because nothing moved.
        ended: whether :meth:`cut` was called.
        first: the first byte that came.
        heard: the last message of PS3.8 7 that came: an answer, a release or an abort.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.error: OSError | None = None
        self.connected = self.secured = self.stalled = self.ended = False
        self.first = b""
        self.heard: Any = None
        self._moved = time.monotonic()
        self._socket: socket.socket | None = None

    def wrap(self, plain: socket.socket, context: ssl.SSLContext | None, host: str) -> _Watched:
        """Take the place of a socket that is not connected yet."""
        watched: _Watched
        if context is None:
            family, kind, protocol = plain.family, plain.type, plain.proto
            watched = _PlainSocket(family, kind, protocol, plain.detach())
        else:
            context.sslsocket_class = _TlsSocket
            watched = context.wrap_socket(plain, server_hostname=host)  # type: ignore[assignment]
        watched.link = self
        self._socket = watched
        return watched

    def hear(self, event: Any) -> None:
        """Note a message of the association (``EVT_ACSE_RECV``)."""
        self.heard = event.primitive

    @property
    def rejection(self) -> Any:
        """The answer to the request for an association, if it came last."""
        return self.heard if type(self.heard).__name__ == "A_ASSOCIATE" else None

    def move(self) -> None:
        """Note that something moves."""
        self._moved = time.monotonic()

    def idle(self) -> float:
        """Seconds since anything moved."""
        return time.monotonic() - self._moved

    def cut(self) -> None:
        """End the connection at once; what waits for the peer stops waiting."""
        self.ended = True
        self.shut()

    def shut(self) -> None:
        """Let all reading and sending end."""
        if self._socket is not None:
            with suppress(OSError):  # it is not connected, or no more
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back."""
        if self._socket is not None:
            self._socket.close()

    def fail(self, error: OSError) -> None:
        """Keep the first fault; what follows comes from it."""
        self.error = self.error or error


class Wrapper:
    """Has the one method that pynetdicom calls of an ``ssl.SSLContext``."""

    def __init__(self, link: Link, context: ssl.SSLContext | None) -> None:
        self._link, self._context = link, context

    def wrap_socket(
        self, sock: socket.socket, server_side: bool = False, server_hostname: str = ""
    ) -> _Watched:
        """Return the socket that is used in the place of ``sock``."""
        return self._link.wrap(sock, self._context, server_hostname)


class Inbox(queue.Queue[Any]):
    """Messages of the peer; waiting for one ends when nothing moves any more.

    With it, ``dimse_timeout`` of pynetdicom counts seconds without a byte in either direction, and
    not those that a large object takes on a slow line.
    """

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return the next message.

        Raises:
            queue.Empty: if none comes.
        """
        if not block:
            return super().get(False)
        link = self._link
        link.move()
        while True:
            try:
                return super().get(True, _LOOK)
            except queue.Empty:
                if link.ended:
                    raise
                if timeout is not None and link.idle() > timeout:
                    link.stalled = True
                    link.shut()
                    raise


class _Watched(socket.socket):
    """A socket that tells its link what happens."""

    link: Link | None = None

    def connect(self, address: Any) -> None:
        link = self.link
        assert link is not None
        try:
            if link.ended:
                raise ConnectionAbortedError
            super().connect(address)
        except OSError as error:
            link.fail(error)
            raise
        link.connected = True
        # A request is sent in two pieces; the second must not wait for the receipt of the first.
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def settimeout(self, value: float | None) -> None:
        # pynetdicom sets None once it is connected: a peer that takes no data would hold it up.
        super().settimeout(self.link.timeout if value is None and self.link else value)

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        link, size = self.link, memoryview(data).nbytes
        if link is None:
            return super().send(data, flags)
        if link.error is not None or link.ended:
            return size  # pynetdicom sends what it holds, and only then sees that it was in vain
        try:
            sent = super().send(data, flags)
        except OSError as error:
            link.fail(error)
            link.stalled = link.stalled or isinstance(error, TimeoutError)
            link.shut()
            return size
        link.move()
        return sent

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        link = self.link
        if link is None:  # ssl looks whether there is anything when it takes the socket over
            return super().recv(buflen, flags)
        try:
            data = super().recv(buflen, flags)
        except OSError as error:
            link.fail(error)
            raise
        link.move()
        link.first = link.first or data[:1]
        return data


class _PlainSocket(_Watched):
    pass


class _TlsSocket(_Watched, ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        if self.link is not None:
            self.link.connected = True
        super().do_handshake(block)
        if self.link is not None:
            self.link.secured = True
