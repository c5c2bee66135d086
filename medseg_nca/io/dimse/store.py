"""Send objects to a DICOM application by C-STORE (PS3.4 B)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_nca.io.dimse.address import DimseAddress, check_aet
from medseg_nca.io.dimse.association import opened
from medseg_nca.io.dimse.errors import DimseError
from medseg_nca.io.dimse.faults import aborted, why_broken
from medseg_nca.io.dimse.link import Link
from medseg_nca.io.dimse.outgoing import Outgoing, batches, look_at
from medseg_nca.io.dimse.tls import DimseTls
from medseg_nca.io.store_report import StoreReport

if TYPE_CHECKING:
    from pynetdicom.association import Association

# Statuses of C-STORE (PS3.4 B.2.3, PS3.7 annex C): taken, perhaps with a warning; there already.
_SUCCESS, _WARNINGS, _THERE = 0x0000, frozenset((0x0001, 0x0107, 0x0116)), 0x0111
_NOT_SUPPORTED = 0x0122
_LAST_ID = 0xFFFF
# Of the archive in one call, after which it is given up: it is not about single objects then.
_MOST_ABORTS = 8


class DimseStorage:
    """An archive that takes objects by C-STORE; may be used from several threads.

    Files are sent as they are, one after the other, so that one is in memory at a time.

    Args:
        address: of the archive.
        calling_aet: AE title of this side.
        tls: for an archive that speaks TLS.
        timeout: seconds for the connection, and in which nothing moves.

    Raises:
        ConfigError: if the AE title cannot be one.
    """

    def __init__(
        self, address: DimseAddress, calling_aet: str, tls: DimseTls | None = None,
        timeout: float = 30.0,
    ) -> None:  # fmt: skip
        self.address, self.timeout = address, timeout
        self._aet, self._tls = check_aet(calling_aet), tls
        self._lock, self._closed = threading.Lock(), False
        self._links: set[Link] = set()

    @property
    def name(self) -> str:
        """What it is called in messages and logs."""
        return str(self.address)

    def close(self) -> None:
        """End what is being sent, at once, and take nothing more."""
        with self._lock:
            self._closed = True
            for link in self._links:
                link.cut()

    def store(self, files: Sequence[Path]) -> StoreReport:
        """Send files; an object that is there already counts as taken.

        An object at which the archive aborts is sent once more by an association of its own; if it
        aborts again, the object counts as refused, without a reason.

        Args:
            files: of DICOM (PS3.10), one object each.

        Raises:
            DependencyError, ConfigError: as :func:`medseg_nca.io.dimse.association.opened`.
            OSError: if a file is gone or cannot be read.
            DicomError: if a file is no DICOM.
            DimseError: if the archive did not say of all objects what became of them, has no room,
                or a file was changed while it was sent. What it took until then, it has.
        """
        refused: dict[str, int | None] = {}
        notes: dict[str, None] = {}
        aborts = 0
        for batch in batches([look_at(Path(file)) for file in files]):
            waiting, suspect = deque(batch), ""
            while waiting:
                try:
                    self._send(waiting, refused, notes)
                except _Aborted as abort:
                    aborts += 1
                    if aborts > _MOST_ABORTS:
                        raise abort.error from None
                    file = waiting[0]
                    if suspect == file.instance:
                        waiting.popleft()
                        refused[file.instance] = None
                        notes[f"{self.name}: aborts at {_what(file)}."] = None
                    suspect = file.instance
        return StoreReport(refused, tuple(notes))

    def _send(
        self, waiting: deque[Outgoing], refused: dict[str, int | None], notes: dict[str, None]
    ) -> None:
        """Send by one association; what has been answered does not wait any more."""
        from pynetdicom import build_context

        contexts = [build_context(*one) for one in dict.fromkeys(file.context for file in waiting)]
        link, numbers = self._new_link(), count()
        try:
            with opened(
                self.address, self._aet, contexts, tls=self._tls, timeout=self.timeout, link=link
            ) as association:
                takes = {
                    (str(one.abstract_syntax), str(one.transfer_syntax[0]))
                    for one in association.accepted_contexts
                }
                while waiting:
                    file, number = waiting[0], next(numbers) % _LAST_ID + 1
                    status = _NOT_SUPPORTED
                    if file.context in takes:
                        status = self._send_one(association, link, file, number)
                    self._note(file, status, refused, notes)
                    waiting.popleft()
        except DimseError as error:
            if error.trouble != "unsupported":
                raise
            for file in waiting:
                self._note(file, _NOT_SUPPORTED, refused, notes)
            waiting.clear()
        finally:
            with self._lock:
                self._links.discard(link)

    def _new_link(self) -> Link:
        link = Link(self.timeout)
        with self._lock:
            link.ended = self._closed
            self._links.add(link)
        return link

    def _send_one(self, association: Association, link: Link, file: Outgoing, number: int) -> int:
        """Send a file, and return the status of the answer."""
        status = None
        if association.is_established:
            self._check(file)
            status = association.send_c_store(file.path, msg_id=number).get("Status")
            self._check(file)
        if status is None:
            association.join(self.timeout)  # it takes note of an abort in a thread of its own
            tls = self._tls is not None
            error = why_broken(self.address, self._aet, link, "C-STORE", tls=tls)
            raise _Aborted(error) if aborted(link) and not link.ended else error
        return int(status)

    def _check(self, file: Outgoing) -> None:
        if not file.is_unchanged():
            raise DimseError(
                "faulty", f"{file.path}: was changed while it was sent to {self.name}.",
                hint="Send it again.",
            )  # fmt: skip

    def _note(
        self, file: Outgoing, status: int, refused: dict[str, int | None], notes: dict[str, None]
    ) -> None:
        if status >> 12 == 0xB or status in _WARNINGS or status in (_SUCCESS, _THERE):
            return
        if status >> 8 == 0xA7:
            raise DimseError(
                "busy", f"{self.name}: has no room for more (status 0x{status:04X}).",
                hint="Make room there; then send again.",
            )  # fmt: skip
        refused[file.instance] = status
        notes[f"{self.name}: refuses {_what(file)} (status 0x{status:04X})."] = None


class _Aborted(Exception):  # noqa: N818
    """The archive aborted while it was sent an object."""

    def __init__(self, error: DimseError) -> None:
        super().__init__(error.message)
        self.error = error


def _what(file: Outgoing) -> str:
    """What a file is, in words."""
    from pydicom.uid import UID

    return f"an object of the class {UID(file.sop_class).name} in {UID(file.syntax).name}"
