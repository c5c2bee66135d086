"""The storage provider of the node: takes instances by C-STORE and keeps them (PS3.4 A and B).

An instance is answered with success when its file and its folder are on the disk, not before.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from medseg_nca.errors import ConfigError, DependencyError, OutputError
from medseg_nca.io.dicom.files.syntaxes import EXPLICIT_LITTLE, SYNTAXES
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.node.access import Access, Allowed
from medseg_nca.serving.node.arriving import check_room
from medseg_nca.serving.node.spool import Spool
from medseg_nca.serving.node.storage_commitment import PUSH_MODEL, Commitments
from medseg_nca.serving.node.visit import Visit, take

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.events import Event
    from pynetdicom.presentation import PresentationContext

    from medseg_nca.serving.node.connections import Listener

_LOG = logging.getLogger(__name__)
# Result, source and reason of a rejection (PS3.8 9.3.4).
_UNKNOWN_CALLER, _WRONG_CALLED, _TOO_MANY = (1, 1, 3), (1, 1, 7), (2, 3, 2)
# Connections beyond the associations: of peers that are told that there are too many, or that have
# not said anything yet.
_MORE_CONNECTIONS = 8
# Bytes of a P-DATA-TF PDU that peers may send.
_PDU = 2**17
# Seconds without a message after which an association may be ended when the node stops.
_IDLE = 2.0
_EVENT_REPORT_RSP = 0x8100  # PS3.7 E.1
_VERIFICATION = "1.2.840.10008.1.1"


class NodeTls(Protocol):
    """What makes the receiver speak DICOM TLS (PS3.15 B.12)."""

    def server_context(self) -> ssl.SSLContext:
        """The settings of the side that is called."""

    def client_context(self) -> ssl.SSLContext:
        """The settings of the side that calls."""


@dataclass(frozen=True)
class ReceiverSettings:
    """Of a receiver.

    Attributes:
        aet: AE title that peers call.
        host: address to listen at.
        port: 0 for a free one.
        allow: who may send; nobody if there is none.
        tls: None for plain connections.
        max_object_bytes: of one data set. Longer ones are read to their end and answered with
            0xA700 (out of resources), so that the sender learns why; beyond twice as many bytes
            the association is aborted.
        max_associations: at one time.
        max_per_address: associations of one address at one time, so that no peer can take them all.
        artim_timeout: seconds in which a connection has to ask for an association.
        network_timeout: seconds without a byte after which an association is aborted.
        stop_timeout: seconds that associations have to finish when the node stops.
        commitment_pauses: seconds before each further try to tell a caller what is kept (PS3.4 J);
            after the last one its request is given up.
    """

    aet: str
    host: str = "127.0.0.1"
    port: int = 11112
    allow: tuple[Allowed, ...] = ()
    tls: NodeTls | None = None
    max_object_bytes: int = 4 * 2**30
    max_associations: int = 16
    max_per_address: int = 8
    artim_timeout: float = 10.0
    network_timeout: float = 60.0
    stop_timeout: float = 30.0
    commitment_pauses: tuple[float, ...] = (30.0, 60.0, 300.0, 900.0, 3600.0, 7200.0)


class Receiver:
    """Listens for associations, and keeps what they bring.

    Args:
        spool: for the instances.
        settings: of this receiver.
        arrived: is told the key of a series and the AE title of the sender after each instance.
        audit: gets a line for each association that ends.
        metrics: counts associations, instances and bytes.

    Raises:
        DependencyError: if pynetdicom is not installed.
    """

    def __init__(
        self,
        spool: Spool,
        settings: ReceiverSettings,
        arrived: Callable[[str, str], None],
        audit: AuditLog,
        metrics: Metrics,
    ) -> None:
        if find_spec("pynetdicom") is None:
            raise DependencyError(
                "The DICOM node needs the package pynetdicom, which is not installed.",
                hint="pip install 'medseg-nca[serve]'",
            )
        self.spool, self.settings, self.arrived = spool, settings, arrived
        self.audit, self.metrics = audit, metrics
        self.access = Access(settings.allow)
        self._commitments = Commitments(
            spool, settings.aet, self.access, settings.tls, settings.commitment_pauses
        )
        self._lock = threading.Lock()
        self._visits: dict[Association, Visit] = {}
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen.

        Raises:
            ConfigError: if the port cannot be had, or the certificate cannot be used.
        """
        from pynetdicom import _config
        from pynetdicom.ae import ApplicationEntity

        from medseg_nca.serving.node.connections import Listener, Slots

        # Its log lines quote data sets, and it makes them whether they are shown or not.
        _config.LOG_HANDLER_LEVEL = "none"
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
        settings = self.settings
        self._ae = ApplicationEntity(settings.aet)
        self._ae.acse_timeout = settings.artim_timeout
        self._ae.network_timeout = self._ae.dimse_timeout = settings.network_timeout
        self._ae.maximum_associations = 2**16  # pynetdicom counts silent connections too
        self._contexts = supported_contexts()
        self._tls = None if settings.tls is None else settings.tls.server_context()
        self._associations = Slots(settings.max_associations, settings.max_per_address)
        self._connections = Slots(
            2 * settings.max_associations + _MORE_CONNECTIONS,
            settings.max_per_address + _MORE_CONNECTIONS,
        )
        self.spool.remove_leftovers()
        try:
            self._listener = Listener(settings.host, settings.port, self._connections, self._serve)
        except OSError as error:
            raise ConfigError(
                f"The node cannot listen at {settings.host} port {settings.port} "
                f"({error.strerror or error}).",
                hint="Choose another port, or stop what uses it.",
            ) from error
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(0.1,), name="dicom-listener", daemon=True
        )
        self._thread.start()
        self._commitments.start()

    @property
    def port(self) -> int:
        """The port that it listens at."""
        if self._listener is None:
            return self.settings.port
        return int(self._listener.server_address[1])

    def problem(self) -> str | None:
        """Why nothing can be received; None if all is well."""
        if self._thread is None or not self._thread.is_alive():
            return "The DICOM node does not listen."
        try:
            check_room(self.spool.folder, self.spool.reserve_bytes)
        except (OutputError, OSError):
            return "The DICOM node takes nothing: its disk is full."
        return None

    def stop(self) -> None:
        """Take no new association, let those finish that are at work, and end the others."""
        if self._listener is None or self._thread is None:
            return
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()
        deadline = time.monotonic() + self.settings.stop_timeout
        while self._connections.held and time.monotonic() < deadline + _IDLE:
            late = time.monotonic() > deadline
            for assoc, visit in self._open_visits().items():
                if late or not visit.is_at_work(_IDLE):
                    self._cut(assoc, visit)
            time.sleep(0.02)
        self._commitments.stop()
        self._listener = None

    def _open_visits(self) -> dict[Association, Visit]:
        with self._lock:
            return dict(self._visits)

    def _cut(self, assoc: Association, visit: Visit) -> None:
        """End an association: it is told, and a moment later its connection is closed."""
        if not visit.told_to_end:
            visit.told_to_end = time.monotonic()
            if assoc.is_established:
                assoc.abort(block=False)
        elif time.monotonic() - visit.told_to_end > 1 or not assoc.is_established:
            visit.hang_up()

    def _serve(self, connection: socket.socket, host: str, port: int) -> None:
        """Serve one connection, in its thread."""
        from medseg_nca.serving.node.connections import shake_hands

        if self._tls is not None:
            secured = shake_hands(connection, self._tls, self.settings.artim_timeout)
            if secured is None:
                self.metrics.count("associations_total", outcome="tls-failed")
                return
            connection = secured
        with connection:
            self._associate(connection, host, port)

    def _associate(self, connection: socket.socket, host: str, port: int) -> None:
        from pynetdicom.transport import AddressInformation

        from medseg_nca.serving.node.connections import Accepted, BoundedSocket
        from medseg_nca.serving.node.incoming import Incoming

        settings = self.settings
        assoc = Accepted(self._ae)
        incoming = Incoming(assoc, self.spool, settings.max_object_bytes)
        visit = Visit(host, connection, incoming)
        assoc.dimse = incoming
        assoc.set_socket(
            BoundedSocket(
                assoc, connection,
                first_timeout=settings.artim_timeout, timeout=settings.network_timeout,
            )
        )  # fmt: skip
        assoc.acceptor.ae_title = settings.aet
        assoc.acceptor.maximum_length = _PDU
        assoc.acceptor.address_info = AddressInformation(settings.host, self.port)
        assoc.acceptor.implementation_class_uid = self._ae.implementation_class_uid
        assoc.acceptor.implementation_version_name = self._ae.implementation_version_name
        assoc.acceptor.supported_contexts = self._contexts
        assoc.requestor.address_info = AddressInformation(host, port)
        self._bind(assoc, visit)
        with self._lock:
            self._visits[assoc] = visit
        try:
            assoc.start()
            assoc.join()
        finally:
            self._end(assoc, visit)

    def _bind(self, assoc: Association, visit: Visit) -> None:
        from pynetdicom import evt

        handlers: dict[Any, Callable[..., Any]] = {
            evt.EVT_REQUESTED: self._requested,
            evt.EVT_RELEASED: lambda _, visit: visit.became("released"),
            evt.EVT_C_ECHO: lambda _, visit: visit.echo(),
            evt.EVT_C_STORE: self._store,
            evt.EVT_N_ACTION: self._commit,
            evt.EVT_DIMSE_RECV: self._message,
        }
        for event, handler in handlers.items():
            assoc.bind(event, handler, [visit])

    def _requested(self, event: Event, visit: Visit) -> None:
        """Let a caller in, or reject it."""
        try:
            reason = self._refusal(event.assoc, visit)
        except Exception as error:  # pynetdicom would let it in
            _LOG.error("A caller cannot be checked: %s.", type(error).__name__)
            reason = (2, 3, 1)
        if reason is not None:
            event.assoc.acse.send_reject(*reason)

    def _refusal(self, assoc: Association, visit: Visit) -> tuple[int, int, int] | None:
        request: Any = assoc.requestor.primitive
        visit.aet = str(request.calling_ae_title).strip()
        if str(request.called_ae_title).strip() != self.settings.aet.strip():
            visit.became("refused-called-title")
            return _WRONG_CALLED
        if not self.access.permits(visit.aet, visit.address):
            visit.became("refused-caller")
            return _UNKNOWN_CALLER
        if not self._associations.take(visit.address):
            visit.became("refused-busy")
            return _TOO_MANY
        visit.holds_slot = True
        visit.became("aborted")
        return None

    def _store(self, event: Event, visit: Visit) -> Any:
        """Answer a C-STORE request."""
        taken = take(event, self.spool)
        visit.count(taken)
        self.metrics.count("instances_received_total", outcome=taken.outcome)
        if taken.key is not None:
            self.metrics.count("received_bytes_total", taken.size)
            try:
                self.arrived(taken.key, visit.aet)
            except Exception as error:
                _LOG.error("An arrival could not be told on: %s.", type(error).__name__)
        return taken.answer()

    def _commit(self, event: Event, visit: Visit) -> tuple[int, None]:
        """Answer a request for commitment."""
        return self._commitments.take(event, visit.aet, visit.address), None

    def _message(self, event: Event, _: Visit) -> None:
        if event.message.command_set.get("CommandField") == _EVENT_REPORT_RSP:
            self._commitments.answered(event)

    def _end(self, assoc: Association, visit: Visit) -> None:
        """Clear up after an association, and write who it was."""
        visit.close(assoc)
        if visit.holds_slot:
            self._associations.give(visit.address)
        with self._lock:
            del self._visits[assoc]
        self.metrics.count("associations_total", outcome=visit.outcome)
        if not visit.aet and visit.outcome == "none":
            return  # a flood of connections would fill the log
        try:
            self.audit.write(
                "association", user=visit.aet, outcome=visit.outcome, **visit.facts(self.audit)
            )
        except OSError as error:
            _LOG.error("The audit log cannot be written: %s.", error.strerror)


def supported_contexts() -> list[PresentationContext]:
    """Verification, storage commitment, and all storage classes in what this package decodes."""
    from pynetdicom.presentation import AllStoragePresentationContexts, build_context

    syntaxes = sorted(SYNTAXES, key=lambda uid: uid != EXPLICIT_LITTLE)
    storage = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    return [
        build_context(_VERIFICATION),
        build_context(PUSH_MODEL),
        *(build_context(uid, syntaxes) for uid in storage),
    ]
