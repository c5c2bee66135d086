"""TCP connections to the node, and how many there may be.

pynetdicom starts threads for each connection before anybody has said anything, does the handshake
of TLS in the thread that accepts, and reads a PDU of any length without a time limit. One silent
peer would stop such a server; here each step has a limit, and each address a share.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket

from medseg_nca.serving.node.visit import hang_up

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity

_LOG = logging.getLogger(__name__)
_CHUNK = 2**16
# A request for an association: 128 contexts with 16 transfer syntaxes each have some 60 kB.
MAX_PDU = 2**18


class Slots:
    """Counts what addresses hold at once; may be used from several threads.

    Args:
        total: for all addresses together.
        each: for one address.
    """

    def __init__(self, total: int, each: int) -> None:
        self.total, self.each = total, each
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, address: str) -> bool:
        """Take one, if there is one for this address."""
        with self._lock:
            if self._held.total() >= self.total or self._held[address] >= self.each:
                return False
            self._held[address] += 1
            return True

    def give(self, address: str) -> None:
        """Give one back."""
        with self._lock:
            self._held[address] -= 1
            if self._held[address] <= 0:
                del self._held[address]

    @property
    def held(self) -> int:
        """How many are taken."""
        with self._lock:
            return self._held.total()


class Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Accepts connections and gives each a thread, as far as there are slots.

    Args:
        host: address to listen at.
        port: 0 for a free one.
        slots: of connections; one that finds none is closed at once.
        serve: is called in the thread of a connection; it ends with the connection.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, slots: Slots, serve: Callable[[socket.socket, str, int], None]
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._slots, self._serve = slots, serve
        super().__init__((host, port), socketserver.BaseRequestHandler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take a slot."""
        return self._slots.take(str(client_address[0]))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the thread; without one the slot is given back."""
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.give(str(client_address[0]))
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection to its end."""
        host, port = str(client_address[0]), int(client_address[1])
        try:
            self._serve(request, host, port)
        except Exception as error:
            _LOG.error("A DICOM connection ended with %s.", type(error).__name__)
        finally:
            self.shutdown_request(request)
            self._slots.give(host)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that could not be begun: a flood would fill the log."""


class Contained(threading.Thread):
    """A thread whose errors are told by their kind alone: their text may quote what a peer sent."""

    def run(self) -> None:
        """Run to the end, or to the first error."""
        try:
            super().run()
        except Exception as error:
            _LOG.info("A DICOM association broke off: %s.", type(error).__name__)


class Reader(Contained, DULServiceProvider):  # type: ignore[misc]
    """Reads and writes the PDUs of an association."""


class Accepted(Contained, Association):  # type: ignore[misc]
    """An association that a peer has asked for.

    Args:
        ae: of the node; its time limits count.
    """

    def __init__(self, ae: ApplicationEntity) -> None:
        super().__init__(ae, "acceptor")  # type: ignore[arg-type]
        self.dul = Reader(self)  # type: ignore[arg-type]
        self.acse_timeout, self.network_timeout = ae.acse_timeout, ae.network_timeout


class BoundedSocket(AssociationSocket):  # type: ignore[misc]
    """The connection of an association, with a limit of time and bytes for each PDU.

    Args:
        assoc: the association.
        client_socket: the connection.
        first_timeout: seconds for a PDU before there is an association (ARTIM, PS3.8 9.1.5).
        timeout: seconds for a PDU after that.
    """

    def __init__(
        self,
        assoc: Association,
        client_socket: socket.socket,
        *,
        first_timeout: float,
        timeout: float,
    ) -> None:
        self._first_timeout, self._timeout = first_timeout, timeout
        super().__init__(assoc, client_socket=client_socket)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly so many bytes, or fewer if the peer has closed.

        Raises:
            OSError: if they do not come in time, or are more than any PDU has.
        """
        if nr_bytes > MAX_PDU:
            raise OSError("a PDU is too long")
        established = self.assoc.is_established
        deadline = time.monotonic() + (self._timeout if established else self._first_timeout)
        found, connection = bytearray(), self.socket
        if connection is None:
            return found
        try:
            while len(found) < nr_bytes:
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                piece = connection.recv(min(nr_bytes - len(found), _CHUNK))
                if not piece:
                    break
                found += piece
        finally:
            connection.settimeout(self._timeout)  # for what is sent
        return found


def shake_hands(
    connection: socket.socket, context: ssl.SSLContext, timeout: float
) -> ssl.SSLSocket | None:
    """Begin TLS within a time; None if the peer does not, or has no certificate that counts."""
    secured = None
    try:
        secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        clock = threading.Timer(timeout, hang_up, (secured,))
        clock.daemon = True
        clock.start()
        try:
            secured.do_handshake()
        finally:
            clock.cancel()
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        if secured is not None:
            secured.close()
        return None
    return secured
