"""Storage commitment, push model: the node says which instances it keeps (PS3.4 J).

A request lies in a file from before it is acknowledged until its answer was taken. The answer is
given on the association of the request while that lasts, otherwise on a new one to the address that
is known of the caller.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg_nca.io.atomic import write_json
from medseg_nca.io.dicom.files.syntaxes import SYNTAXES
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.serving.jobs.disk import to_disk
from medseg_nca.serving.node.access import Access
from medseg_nca.serving.node.identity import DataInMemory, NotUnderstood, elements_of, is_uid
from medseg_nca.serving.node.spool import Spool

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pynetdicom.association import Association
    from pynetdicom.events import Event

_LOG = logging.getLogger(__name__)
PUSH_MODEL = "1.2.840.10008.1.20.1"
# The one instance of the push model (PS3.4 J.3.5).
_WELL_KNOWN = "1.2.840.10008.1.20.1.1"
_REQUEST = 1  # action type (PS3.4 J.3.2)
_ALL_KEPT, _SOME_FAILED = 1, 2  # event types (PS3.4 J.3.3)
_NO_SUCH_OBJECT = 0x0112  # failure reason (PS3.3 C.14.1.1)
_TRANSACTION, _REFERENCED = 0x00081195, 0x00081199
_CLASS, _INSTANCE = 0x00081150, 0x00081155
_MOST_INSTANCES, _MOST_WAITING = 20_000, 1000
# Seconds before the first answer, so that a caller that hangs up at once has done so.
_FIRST = 1.0
_NAME = re.compile(r"[0-9a-f]{32}\.json")


@dataclass(frozen=True)
class Commitment:
    """A request that waits for its answer.

    Attributes:
        aet: AE title of the caller.
        address: of the caller.
        transaction_uid: TransactionUID.
        instances: SOP class and SOP instance UIDs.
        tried: how often it was answered in vain.
    """

    aet: str
    address: str
    transaction_uid: str
    instances: tuple[tuple[str, str], ...]
    tried: int = 0


class Commitments:
    """Takes requests for commitment and answers them, in a thread of its own.

    Args:
        spool: that says what is kept; requests lie in a folder of it.
        aet: of the node.
        access: knows where callers listen.
        tls: gives the settings of associations that the node opens; None for plain ones.
        pauses: seconds before each further try.
    """

    def __init__(
        self,
        spool: Spool,
        aet: str,
        access: Access,
        tls: Any,
        pauses: tuple[float, ...],
    ) -> None:
        self.folder = spool.folder / ".commitments"
        self._spool, self._aet, self._access, self._tls = spool, aet, access, tls
        self._pauses = pauses
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._due: dict[Path, float] = {}
        self._open: dict[Path, Association] = {}
        self._sent: dict[tuple[Association, int], Path] = {}
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="dicom-commitment", daemon=True)

    def start(self) -> None:
        """Begin, with the requests that an earlier process has left."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        left = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        self._due = dict.fromkeys(left, time.monotonic())
        self._thread.start()

    def stop(self) -> None:
        """End; requests that were not answered wait for the next start."""
        self._stopped = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def take(self, event: Event, aet: str, address: str) -> int:
        """Answer an N-ACTION request: keep it, and say so (PS3.4 J.3.2, PS3.7 10.1.4)."""
        request: Any = event.request
        if request.RequestedSOPInstanceUID != _WELL_KNOWN:
            return 0x0112  # no such SOP instance
        if request.ActionTypeID != _REQUEST:
            return 0x0123  # no such action
        with self._lock:
            if len(self._due) >= _MOST_WAITING:
                return 0x0213  # resource limitation
        try:
            syntax = str(event.context.transfer_syntax)
            transaction, instances = _asked_for(request.ActionInformation.getvalue(), syntax)
            path = self.folder / f"{secrets.token_hex(16)}.json"
            _write(path, Commitment(aet, address, transaction, instances))
        except (NotUnderstood, AttributeError):
            return 0x0115  # invalid argument value
        except Exception as error:
            _LOG.error("A request for commitment cannot be kept: %s.", type(error).__name__)
            return 0x0110  # processing failure
        with self._lock:
            self._due[path] = time.monotonic() + _FIRST
            self._open[path] = event.assoc
        self._wake.set()
        return 0x0000

    def answered(self, event: Event) -> None:
        """Note that a peer has taken an answer that was sent on its own association."""
        command = event.message.command_set
        number = command.get("MessageIDBeingRespondedTo")
        with self._lock:
            path = self._sent.pop((event.assoc, number), None) if number is not None else None
        if path is not None and command.get("Status") == 0x0000:
            self._done(path)

    def _run(self) -> None:
        while not self._stopped:
            now = time.monotonic()
            with self._lock:
                due = [path for path, at in self._due.items() if at <= now]
            for path in due:
                if self._stopped:
                    return
                try:
                    self._answer(path)
                except Exception as error:
                    _LOG.error("A commitment cannot be told: %s.", type(error).__name__)
                    self._give_up_or_wait(path)
            self._wake.wait(0.5)
            self._wake.clear()

    def _answer(self, path: Path) -> None:
        commitment = _read(path)
        if commitment is None:
            self._done(path)
            return
        with self._lock:
            assoc = self._open.pop(path, None)
            for sent in [key for key, value in self._sent.items() if value == path]:
                del self._sent[sent]  # it was not answered in time
        number, report = self._report(commitment)
        if assoc is not None and assoc.is_established:
            self._later(path)  # unless its answer comes before
            self._send_back(path, assoc, number, report)
        elif not self._tell(commitment, number, report):
            self._give_up_or_wait(path)
        else:
            self._done(path)

    def _report(self, commitment: Commitment) -> tuple[int, Dataset]:
        """Event type and event information (PS3.4 J.3.3)."""
        from pydicom.dataset import Dataset

        kept, failed = [], []
        for sop_class, sop_instance in commitment.instances:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
            if self._spool.holds(sop_instance):
                kept.append(item)
            else:
                item.FailureReason = _NO_SUCH_OBJECT
                failed.append(item)
        report = Dataset()
        report.TransactionUID = commitment.transaction_uid
        if kept:
            report.ReferencedSOPSequence = kept
        if failed:
            report.FailedSOPSequence = failed
        return (_SOME_FAILED if failed else _ALL_KEPT), report

    def _send_back(self, path: Path, assoc: Association, number: int, report: Dataset) -> None:
        """Send the answer on the association of the request; its response comes by itself."""
        from pynetdicom.dimse_primitives import N_EVENT_REPORT
        from pynetdicom.dsutils import encode

        contexts = [c for c in assoc.accepted_contexts if c.abstract_syntax == PUSH_MODEL]
        syntax: Any = contexts[0].transfer_syntax[0]
        request: Any = N_EVENT_REPORT()
        request.MessageID = secrets.randbelow(2**15) + 1
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = PUSH_MODEL, _WELL_KNOWN
        request.EventTypeID = number
        with quiet():
            data = encode(report, syntax.is_implicit_VR, syntax.is_little_endian)
        request.EventInformation = io.BytesIO(data or b"")
        with self._lock:
            self._sent[(assoc, request.MessageID)] = path
        assoc.dimse.send_msg(request, contexts[0].context_id)

    def _tell(self, commitment: Commitment, number: int, report: Dataset) -> bool:
        """Give the answer on a new association; returns whether the caller has taken it."""
        from pynetdicom import build_role
        from pynetdicom.ae import ApplicationEntity

        place = self._access.address_of(commitment.aet, commitment.address)
        if place is None:
            return False
        ae = ApplicationEntity(self._aet)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
        ae.add_requested_context(PUSH_MODEL)
        tls = None if self._tls is None else (self._tls.client_context(), place[0])
        assoc = ae.associate(
            *place, ae_title=commitment.aet, tls_args=tls,
            ext_neg=[build_role(PUSH_MODEL, scp_role=True)],
        )  # fmt: skip
        if not assoc.is_established:
            return False
        try:
            status, _ = assoc.send_n_event_report(report, number, PUSH_MODEL, _WELL_KNOWN)
            return bool(status.get("Status") == 0x0000)
        finally:
            assoc.release()

    def _give_up_or_wait(self, path: Path) -> None:
        commitment = _read(path)
        if commitment is None or commitment.tried >= len(self._pauses):
            _LOG.warning("A request for commitment is given up: its caller cannot be told.")
            self._done(path)
            return
        with self._lock:
            self._due[path] = time.monotonic() + self._pauses[commitment.tried]
        _write(path, replace(commitment, tried=commitment.tried + 1))

    def _later(self, path: Path) -> None:
        with self._lock:
            self._due[path] = time.monotonic() + self._pauses[0]

    def _done(self, path: Path) -> None:
        with self._lock:
            self._due.pop(path, None)
            self._open.pop(path, None)
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _asked_for(data: bytes, syntax_uid: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Transaction and instances of a request (PS3.4 J.3.2).

    Raises:
        NotUnderstood: if it is malformed, or names too many.
    """
    elements = elements_of(DataInMemory(data), SYNTAXES[syntax_uid].uid)
    transaction = elements.texts(_TRANSACTION)
    instances = []
    for item in elements.items(_REFERENCED):
        uids = [item.texts(_CLASS), item.texts(_INSTANCE)]
        if not all(len(one) == 1 and is_uid(one[0]) for one in uids):
            raise NotUnderstood
        instances.append((uids[0][0], uids[1][0]))
    known = len(transaction) == 1 and is_uid(transaction[0])
    if not known or not 0 < len(instances) <= _MOST_INSTANCES:
        raise NotUnderstood
    return transaction[0], tuple(instances)


def _write(path: Path, commitment: Commitment) -> None:
    write_json(path, asdict(commitment))
    os.chmod(path, 0o600)
    to_disk(path, path.parent)


def _read(path: Path) -> Commitment | None:
    """None if the file is gone or damaged."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        instances = tuple((str(one), str(other)) for one, other in tree.pop("instances"))
        return Commitment(**tree, instances=instances)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
