"""A DICOMweb server that has some series, and may hold some of them back."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.io.dicomweb.peer import PARTS, Peer, parts, reply

_TAGS = ("StudyInstanceUID", "SeriesInstanceUID", "Modality", "PatientID", "StudyDate",
         "SeriesNumber", "SeriesDescription")  # fmt: skip


class WebArchive:
    """Answers a search with all it has, whatever it is asked for, and sends series.

    Args:
        server: that answers.
        files: of all series.

    Attributes:
        held_back: instances that are not sent, by SeriesInstanceUID.
        untold: keywords that are left out of answers.
        broken: SeriesInstanceUIDs that are answered with 500.
    """

    def __init__(self, server: Peer, files: list[Path]) -> None:
        self.server = server
        self.held_back: dict[str, int] = {}
        self.untold: set[str] = set()
        self.broken: set[str] = set()
        self._series: dict[str, list[Path]] = {}
        for path in files:
            self.add(path)
        server.answer = self._answer

    def add(self, path: Path) -> None:
        self._series.setdefault(str(dcmread(path).SeriesInstanceUID), []).append(path)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        place = urlsplit(handler.path).path
        if place.endswith("/dicom-web/series"):
            tree = [self._entry(dcmread(paths[0]), len(paths)) for paths in self._series.values()]
            reply(handler, 200, json.dumps(tree).encode())
            return
        uid = place.rpartition("/")[2]
        if uid in self.broken:
            reply(handler, 500)
            return
        paths = self._series[uid]
        kept = paths[: len(paths) - self.held_back.get(uid, 0)]
        reply(handler, 200, parts(kept), Content_Type=PARTS)

    def _entry(self, header: Dataset, count: int) -> dict[str, Any]:
        told = Dataset()
        for keyword in set(_TAGS) - self.untold:
            if keyword in header:
                setattr(told, keyword, header[keyword].value)
        if "NumberOfSeriesRelatedInstances" not in self.untold:
            told.NumberOfSeriesRelatedInstances = count
        return told.to_json_dict()
