"""One association: what it brought, how it is answered, and what the audit log says of it."""

from __future__ import annotations

import logging
import socket
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from medseg_nca.errors import OutputError
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.node.identity import NotUnderstood, identify
from medseg_nca.serving.node.spool import Spool, SpoolFull

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pynetdicom.association import Association
    from pynetdicom.events import Event

    from medseg_nca.serving.node.incoming import Incoming, Landing

_LOG = logging.getLogger(__name__)
# Series that the line of an association names; one may bring thousands.
_NAMED = 20
# Seconds in which the last message to a peer has to leave.
_LAST_WORD = 2.0

Outcome = Literal[
    "stored", "again", "replaced", "full", "too-large", "mismatch", "not-understood",
    "unsupported", "fault",
]  # fmt: skip
# Status and comment (at most 64 characters) by outcome: PS3.4 B.2.3, PS3.7 C.
_ANSWERS: dict[Outcome, tuple[int, str]] = {
    "stored": (0x0000, ""),
    "again": (0x0000, ""),
    "replaced": (0x0000, ""),
    "full": (0xA700, "No room to store the object; send it again later"),
    "too-large": (0xA700, "The object has more bytes than this node takes"),
    "mismatch": (0xA900, "The data set is of another SOP class or instance"),
    "not-understood": (0xC000, "The data set lacks UIDs, or cannot be read"),
    "unsupported": (0x0122, "The SOP class is not that of the presentation context"),
    "fault": (0x0110, "The node has a fault; its log says more"),
}


@dataclass(frozen=True)
class Taken:
    """What became of one C-STORE request.

    Attributes:
        outcome: in a word.
        key: of the series in the spool; None if the instance is not kept.
        series_uid: SeriesInstanceUID; "" if the instance is not kept.
        size: bytes of the data set.
    """

    outcome: Outcome
    key: str | None = None
    series_uid: str = ""
    size: int = 0

    def answer(self) -> Dataset:
        """The status, and a comment where it is not success."""
        from pydicom.dataset import Dataset

        answer = Dataset()
        answer.Status, comment = _ANSWERS[self.outcome]
        if comment:
            answer.ErrorComment = comment
        return answer


@dataclass
class Visit:
    """What is known of an association while it lasts.

    Attributes:
        address: of the peer.
        connection: to the peer.
        incoming: its messages.
        aet: AE title of the peer; "" as long as it has not said it.
        outcome: how it ended, or would end now; "none" if it never was an association.
        holds_slot: whether it counts as one of the associations.
        told_to_end: when the node told it that it stops; 0 if it did not.
    """

    address: str
    connection: socket.socket
    incoming: Incoming
    aet: str = ""
    outcome: str = "none"
    holds_slot: bool = False
    told_to_end: float = 0.0
    _counts: Counter[str] = field(default_factory=Counter)
    _series: set[str] = field(default_factory=set)
    _bytes: int = 0
    _last: float = field(default_factory=time.monotonic)

    def became(self, outcome: str) -> None:
        """Note how it would end now."""
        self.outcome, self._last = outcome, time.monotonic()

    def echo(self) -> int:
        """Answer a C-ECHO request (PS3.4 A)."""
        self._last = time.monotonic()
        return 0x0000

    def count(self, taken: Taken) -> None:
        """Note an instance."""
        self._last = time.monotonic()
        self._counts[taken.outcome] += 1
        if taken.key is not None:
            self._bytes += taken.size
            if len(self._series) < _NAMED:
                self._series.add(taken.series_uid)

    def is_at_work(self, idle: float) -> bool:
        """Whether a message is on its way, or one was within so many seconds."""
        waiting = self.incoming.message is not None or self.incoming.msg_queue.qsize() > 0
        return waiting or time.monotonic() - self._last < idle

    def facts(self, audit: AuditLog) -> dict[str, Any]:
        """For the audit log."""
        return {
            "address": self.address,
            "instances": dict(sorted(self._counts.items())),
            "bytes": self._bytes,
            "series": sorted(audit.name(uid) for uid in self._series),
        }

    def hang_up(self) -> None:
        """Close the connection, whatever the peer does."""
        hang_up(self.connection)

    def close(self, assoc: Association) -> None:
        """End the thread that reads, after the last message has left, and clear up."""
        reader, deadline = assoc.dul, time.monotonic() + _LAST_WORD
        while reader.is_alive() and reader.state_machine.current_state != "Sta1":
            if time.monotonic() > deadline:
                break
            time.sleep(0.005)
        reader.kill_dul()
        self.hang_up()
        if reader.ident is not None:
            reader.join()
        self.incoming.close()


def take(event: Event, spool: Spool) -> Taken:
    """Keep the instance of a C-STORE request; nothing is left of one that is not kept."""
    request: Any = event.request
    landing: Landing = request.DataSet
    try:
        return _take(event, landing, spool)
    except NotUnderstood:
        return Taken("not-understood")
    except SpoolFull:
        return Taken("full")
    except Exception as error:
        # Only texts of ours are sure to hold nothing of a patient.
        why = error.message if isinstance(error, OutputError) else type(error).__name__
        _LOG.error("An instance could not be stored: %s", why)
        return Taken("fault")
    finally:
        landing.discard()


def _take(event: Event, landing: Landing, spool: Spool) -> Taken:
    request: Any = event.request
    if landing.trouble is not None:
        return Taken(landing.trouble)
    if landing.arrival is None:
        raise NotUnderstood
    if event.context.abstract_syntax != request.AffectedSOPClassUID:
        return Taken("unsupported")
    landing.arrival.flush()
    found = identify(landing.arrival.path, landing.start, landing.syntax_uid)
    told = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
    if told != (found.sop_class_uid, found.sop_uid):
        return Taken("mismatch")
    kept = spool.adopt(landing.arrival, found.study_uid, found.series_uid, found.sop_uid)
    outcome: Outcome = "stored" if kept.is_new else "replaced" if kept.replaced else "again"
    return Taken(outcome, kept.key, found.series_uid, landing.size)


def hang_up(connection: socket.socket) -> None:
    """Close a connection, whatever the peer does."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
