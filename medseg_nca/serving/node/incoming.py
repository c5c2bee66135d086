"""Messages of a peer while they come in: objects go to the disk, all else is small.

pynetdicom collects a whole data set in memory, or in a temporary file of the system, where a full
disk ends the association. Here the data set of a C-STORE is written into the spool piece by piece,
and what goes wrong with that is kept until it can be answered (PS3.4 B.2.3).
"""

from __future__ import annotations

import io
import logging
import threading
from typing import TYPE_CHECKING, Any, Literal

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage

from medseg_nca.errors import OutputError
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.serving.node.identity import is_uid
from medseg_nca.serving.node.spool import Arrival, Spool, SpoolFull

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.dimse_primitives import DimsePrimitiveType
    from pynetdicom.pdu_primitives import P_DATA

_LOG = logging.getLogger(__name__)
Trouble = Literal["full", "too-large", "not-understood", "fault"]
_C_STORE = 0x0001
# Command sets have some hundred bytes; a request for commitment some 150 for each instance.
_MOST_COMMAND, _MOST_IN_MEMORY = 2**14, 2**20
# Requests that a peer may send before the first is answered; it is told that it may send one.
_MOST_WAITING = 4


class MessageTooLarge(Exception):  # noqa: N818
    """A peer sends what no message of the node is; the association is aborted then."""


class Command(io.BytesIO):
    """The encoded command set of a message."""

    def write(self, data: Any, /) -> int:
        """Add a fragment.

        Raises:
            MessageTooLarge: if there are more bytes than any command set has.
        """
        if self.tell() + len(data) > _MOST_COMMAND:
            raise MessageTooLarge
        return super().write(data)


class Landing(io.BytesIO):
    """The data set of a message: in a file for a C-STORE, in memory for everything else.

    Attributes:
        arrival: the file; None as long as there is none.
        start: of the data set in the file.
        size: bytes of the data set so far.
        trouble: what went wrong; the rest of the data set is then thrown away.
    """

    def __init__(self, incoming: Incoming, message: DIMSEMessage) -> None:
        super().__init__()
        self._incoming, self._message = incoming, message
        self.arrival: Arrival | None = None
        self.start = self.size = 0
        self.syntax_uid = ""
        self.trouble: Trouble | None = None

    def write(self, data: Any, /) -> int:
        """Add a fragment.

        Raises:
            MessageTooLarge: if it is not for a file, or is far beyond what a file may have.
        """
        self.size += len(data)
        if self._message.command_set.get("CommandField") != _C_STORE:
            if self.size > _MOST_IN_MEMORY:
                raise MessageTooLarge
            return super().write(data)
        most = self._incoming.max_object_bytes
        if self.size > most:
            self._fail("too-large")
            if self.size > 2 * most:  # it is read so far that the peer can be told
                raise MessageTooLarge
        if self.trouble is None:
            self._keep(data)
        return len(data)

    def discard(self) -> None:
        """Remove the file, unless it has become one of the spool."""
        if self.arrival is not None:
            self.arrival.discard()
        self._incoming.landings.discard(self)

    def _keep(self, data: bytes) -> None:
        try:
            if self.arrival is None:
                self._open()
            if self.arrival is not None:
                self.arrival.write(data)
        except SpoolFull:
            self._fail("full")
        except Exception as error:
            _LOG.error("An instance cannot be written: %s.", _why(error))
            self._fail("fault")

    def _open(self) -> None:
        command = self._message.command_set
        uids = [command.get("AffectedSOPClassUID"), command.get("AffectedSOPInstanceUID")]
        assoc = self._incoming.assoc
        syntaxes = {
            context.context_id: context.transfer_syntax[0] for context in assoc.accepted_contexts
        }
        syntax = syntaxes.get(self._message.context_id)
        if syntax is None or not all(is_uid(uid) for uid in uids):
            self._fail("not-understood")
            return
        head = _file_meta(uids, str(syntax), str(assoc.requestor.ae_title).strip())
        self.syntax_uid = str(syntax)
        self.arrival = self._incoming.spool.begin()
        self._incoming.landings.add(self)
        self.arrival.write(head)
        self.start = len(head)

    def _fail(self, trouble: Trouble) -> None:
        if self.trouble is None:
            self.trouble = trouble
            self.discard()


class Incoming(DIMSEServiceProvider):  # type: ignore[misc]
    """Receives and sends the messages of one association.

    Args:
        assoc: the association.
        spool: for instances.
        max_object_bytes: of one data set; longer ones are refused.
    """

    message: Any  # the one that is on its way, or None

    def __init__(self, assoc: Association, spool: Spool, max_object_bytes: int) -> None:
        super().__init__(assoc)
        self.spool, self.max_object_bytes = spool, max_object_bytes
        self.landings: set[Landing] = set()
        self._sending = threading.Lock()
        self._broken = False

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a part of a message; one that breaks a bound or cannot be read aborts."""
        if self._broken:
            return
        try:
            self._receive(primitive)
        except Exception as error:  # whatever pydicom and pynetdicom raise on junk
            _LOG.info("A message of a DICOM peer cannot be read: %s.", type(error).__name__)
            self._broken = True
            self.dul.event_queue.put("Evt19")  # an invalid PDU (PS3.8 9.2)

    def _receive(self, primitive: P_DATA) -> None:
        if self.message is None:
            if self.msg_queue.qsize() >= _MOST_WAITING:
                raise MessageTooLarge
            self.message = DIMSEMessage()
            self.message.encoded_command_set = Command()
            self.message.data_set = Landing(self, self.message)
        if any(data[:1] and data[0] & 1 for _, data in primitive.presentation_data_value_list):
            with quiet():  # pydicom warns of odd values and quotes them
                super().receive_primitive(primitive)
        else:
            super().receive_primitive(primitive)

    def send_msg(self, primitive: DimsePrimitiveType, context_id: int) -> None:
        """Send a message; those of several threads do not mix."""
        with self._sending, quiet():
            super().send_msg(primitive, context_id)

    def close(self) -> None:
        """Remove what was not answered when the association ended."""
        for landing in list(self.landings):
            landing.discard()


def _file_meta(uids: list[Any], syntax_uid: str, calling_aet: str) -> bytes:
    """Preamble and file meta information (PS3.10 7.1)."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import UID

    with quiet():
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
            UID(str(uid), validation_mode=0) for uid in uids
        )
        meta.TransferSyntaxUID = UID(syntax_uid)
        meta.SourceApplicationEntityTitle = calling_aet
        buffer = io.BytesIO()
        buffer.write(b"\0" * 128 + b"DICM")
        write_file_meta_info(buffer, meta)  # type: ignore[arg-type]
    return buffer.getvalue()


def _why(error: Exception) -> str:
    """Of an error in a log: its text only where it is ours, and so holds nothing of a patient."""
    return error.message if isinstance(error, OutputError) else type(error).__name__
