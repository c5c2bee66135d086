"""Storage providers that results are sent to, in various moods."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Literal

from pydicom import Dataset, dcmread
from pydicom.uid import SegmentationStorage
from pynetdicom import AE, evt

from tests.orthanc import Orthanc

# What becomes of an association: "busy" and "refuses" answer with a status (out of resources;
# cannot understand), "warns" stores with a warning, "loses" stores and never answers, "aborts" and
# "closes" end it in the middle of an object, "hangs" says nothing until the archive is closed.
Mood = Literal["takes", "rejects", "busy", "refuses", "warns", "loses", "aborts", "closes", "hangs"]
STATUS = {"takes": 0x0000, "warns": 0xB000, "busy": 0xA700, "refuses": 0xC000}
KEEPS = ("takes", "warns", "loses")
AET = "ARCHIVE"
SR_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.88.{number}" for number in (11, 22, 33, 34))


@dataclass
class Archive:
    """A storage provider.

    Attributes:
        moods: of the associations, one after another; the last one stays.
        port: that it listens at.
        objects: what it took, in the order of arrival.
        met: the moods that came about.
    """

    moods: list[Mood]
    port: int = 0
    objects: list[Dataset] = field(default_factory=list)
    met: list[Mood] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        """As ``--send-to`` takes it."""
        return f"{AET}@127.0.0.1:{self.port}"

    @property
    def instances(self) -> set[str]:
        """The different objects."""
        return {str(one.SOPInstanceUID) for one in self.objects}

    def requested(self, event: Any) -> None:
        mood = self.moods.pop(0) if len(self.moods) > 1 else self.moods[0]
        self.met.append(mood)
        event.assoc.mood = mood
        if mood == "rejects":
            event.assoc.acse.send_reject(2, 3, 2)  # transient, local limit exceeded

    def store(self, event: Any) -> int:
        mood = event.assoc.mood
        if mood in KEEPS:
            self.objects.append(event.dataset)
        if mood in ("loses", "closes"):
            event.assoc.dul.socket.close()
        elif mood == "aborts":
            event.assoc.abort(block=False)
        elif mood == "hangs":
            self.closing.wait(120)
        return STATUS.get(mood, 0x0110)


@contextmanager
def archive(*moods: Mood) -> Iterator[Archive]:
    """An archive that listens at a port of its own."""
    about, ae = Archive(list(moods) or ["takes"]), AE(AET)
    for uid in (SegmentationStorage, *SR_CLASSES):
        ae.add_supported_context(uid)
    handlers = [(evt.EVT_REQUESTED, about.requested), (evt.EVT_C_STORE, about.store)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    about.port = server.socket.getsockname()[1]
    try:
        yield about
    finally:
        about.closing.set()
        server.shutdown()
        for association in server.active_associations:
            association.join(60)


def series_of(dataset: Dataset) -> str:
    """The SeriesInstanceUID that a SEG is of."""
    return str(dataset.ReferencedSeriesSequence[0].SeriesInstanceUID)


def results(orthanc: Orthanc, modality: str = "SEG") -> list[Dataset]:
    """The results that an Orthanc has."""
    return [dcmread(BytesIO(file), stop_before_pixels=True) for file in orthanc.files(modality)]
