"""An archive for C-FIND, C-GET and C-MOVE that does what a test wants, right or wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind as Find,
)
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet as Get,
)
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelMove as Move,
)

_NATIVE = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_LEVELS = {
    "STUDY": ("StudyInstanceUID",),
    "SERIES": ("StudyInstanceUID", "SeriesInstanceUID"),
    "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}


class Archive:
    """Holds some files.

    Attributes:
        files: data sets of all instances.
        asked: the identifiers of all C-FIND requests.
        destinations: port by AE title, for C-MOVE.
        status: final status of C-FIND; None answers.
        sends: what C-GET and C-MOVE send, in the place of what was asked for.
        waits: an event that is awaited before each instance is sent.
        counts: whether it tells how many instances a series has.
        strict: whether it searches for series within one study alone.
    """

    def __init__(self, files: list[Path]) -> None:
        self.files = [dcmread(path) for path in files]
        self.asked: list[Dataset] = []
        self.fetched: list[str] = []
        self.destinations: dict[str, int] = {}
        self.status: int | None = None
        self.sends: list[Dataset] | None = None
        self.waits: threading.Event | None = None
        self.counts = self.strict = True
        self.port = 0

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        self.asked.append(asked)
        level = str(asked.QueryRetrieveLevel)
        if self.status is not None or (
            self.strict and level != "STUDY" and not asked.StudyInstanceUID
        ):
            yield self.status or 0xA900, None
            return
        found: dict[tuple[str, ...], Dataset] = {}
        for one in self.files:
            if self._matches(asked, one):
                key = tuple(str(one[name].value) for name in _LEVELS[level])
                found.setdefault(key, self._answer(asked, one))
        for answer in found.values():
            yield 0xFF00, answer

    def get(self, event: evt.Event) -> Iterator[Any]:
        self.fetched.append("C-GET")
        yield from self._send(event)

    def move(self, event: evt.Event) -> Iterator[Any]:
        self.fetched.append("C-MOVE")
        port = self.destinations.get(event.move_destination)
        yield (None, None) if port is None else ("127.0.0.1", port)
        if port is not None:
            yield from self._send(event)

    def _send(self, event: evt.Event) -> Iterator[Any]:
        uid = event.identifier.SeriesInstanceUID
        chosen = self.sends
        if chosen is None:
            chosen = [one for one in self.files if uid == one.SeriesInstanceUID]
        yield len(chosen)
        for one in chosen:
            if self.waits is not None:
                self.waits.wait(60)
            yield 0xFF00, one

    def _matches(self, asked: Dataset, one: Dataset) -> bool:
        keys = (*_LEVELS["IMAGE"], "PatientID", "Modality")
        wanted = {key: str(asked.get(key) or "") for key in keys}
        return all(not value or value == str(one.get(key)) for key, value in wanted.items())

    def _answer(self, asked: Dataset, one: Dataset) -> Dataset:
        answer = Dataset()
        for element in asked:
            if element.keyword in one:
                setattr(answer, element.keyword, one[element.keyword].value)
        answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
        if "NumberOfSeriesRelatedInstances" in asked and self.counts:
            same = [o for o in self.files if o.SeriesInstanceUID == one.SeriesInstanceUID]
            answer.NumberOfSeriesRelatedInstances = len(same)
        return answer


@contextmanager
def running(archive: Archive, *services: str) -> Iterator[Archive]:
    """Run it on a port of its own.

    Args:
        archive: that runs.
        services: of ``Find``, ``Get`` and ``Move``; all if none is named.
    """
    classes = {"Find": Find, "Get": Get, "Move": Move}
    entity = AE("ARCHIVE")
    entity.supported_contexts = []
    for name in services or classes:
        entity.add_supported_context(classes[name])
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, _NATIVE, scu_role=True, scp_role=True)
        entity.add_requested_context(context.abstract_syntax, _NATIVE) if len(
            entity.requested_contexts
        ) < 100 else None
    handlers = [(evt.EVT_C_FIND, archive.find), (evt.EVT_C_GET, archive.get),
                (evt.EVT_C_MOVE, archive.move)]  # fmt: skip
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    archive.port = server.server_address[1]
    try:
        yield archive
    finally:
        if archive.waits is not None:
            archive.waits.set()
        entity.shutdown()
