"""Open an association, whatever the network does, and end it (PS3.8 7)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from medseg_nca.errors import DependencyError
from medseg_nca.io.dimse.address import DimseAddress, check_aet
from medseg_nca.io.dimse.errors import DimseError
from medseg_nca.io.dimse.faults import why_not_open
from medseg_nca.io.dimse.link import Inbox, Link, Wrapper
from medseg_nca.io.dimse.tls import DimseTls

if TYPE_CHECKING:
    from pynetdicom.association import Association

# Of a PDU that this side takes, in bytes (PS3.8 D.1).
MAX_PDU = 2**17


def prepare_pynetdicom() -> None:
    """Have pynetdicom log nothing, as its lines quote identifiers, and send files as they are.

    Raises:
        DependencyError: if pynetdicom is not installed.
    """
    try:
        from pynetdicom import _config
    except ImportError as error:
        raise DependencyError(
            "DICOM messages need the package pynetdicom, which is not installed.",
            hint="pip install 'medseg-nca[serve]'",
        ) from error
    _config.LOG_HANDLER_LEVEL = "none"
    _config.STORE_SEND_CHUNKED_DATASET = True
    logging.getLogger("pynetdicom").propagate = False


@contextmanager
def opened(
    address: DimseAddress, calling_aet: str, contexts: Sequence[Any], *,
    tls: DimseTls | None = None, timeout: float = 30.0, roles: Sequence[Any] = (),
    handlers: Sequence[Any] = (), link: Link | None = None,
) -> Iterator[Association]:  # fmt: skip
    """Open an association; it is released at the end, or aborted where an error ends it.

    Its ``dimse_timeout`` counts seconds in which no byte moves, in either direction.

    Args:
        address: of the peer.
        calling_aet: AE title of this side.
        contexts: presentation contexts, 128 at most.
        tls: for a peer that speaks TLS.
        timeout: seconds for the connection, for the answer to each request, and in which nothing
            moves.
        roles: and other items of the extended negotiation (PS3.7 D.3.3).
        handlers: of pynetdicom's events.
        link: by which another thread can end it, and which tells why it broke
            (:func:`medseg_nca.io.dimse.faults.why_broken`).

    Raises:
        DependencyError: if pynetdicom is not installed.
        ConfigError: if the AE title or a certificate cannot be used.
        DimseError: if it cannot be opened.
    """
    prepare_pynetdicom()
    from pynetdicom import AE, evt

    link = link or Link(timeout)
    entity = AE(check_aet(calling_aet))
    entity.acse_timeout = entity.connection_timeout = timeout
    entity.network_timeout = entity.dimse_timeout = timeout
    context = None if tls is None else tls.client_context()
    try:
        association = entity.associate(
            address.host, address.port, contexts=list(contexts), ae_title=address.aet,
            max_pdu=MAX_PDU, ext_neg=list(roles), tls_args=(Wrapper(link, context), address.host),
            evt_handlers=[(evt.EVT_ACSE_RECV, link.hear), *handlers],
        )  # fmt: skip
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: what can be no name at all
        raise DimseError(
            "unreachable", f"{address}: no machine of the name {address.host} is known.",
            hint="Is its name right, and does the name service know it?",
        ) from error  # fmt: skip
    try:
        if not association.is_established:
            # A rejection that comes at once is still waiting there, as pynetdicom then takes the
            # closed connection for one that failed.
            association.dul.receive_pdu(wait=False)
            answer = association.acceptor.primitive or link.rejection
            raise why_not_open(address, entity.ae_title, link, answer, tls=tls is not None)
        association.dimse.msg_queue = Inbox(link)
        yield association
        if association.is_established:
            association.release()
    finally:
        _end(association, link)


def _end(association: Association, link: Link) -> None:
    """Leave no thread and no socket behind."""
    if association.is_established:
        association.abort()
    link.shut()
    association.dul.kill_dul()
    for thread in (association, association.dul):
        if thread.is_alive():
            thread.join(link.timeout)
    link.close()
