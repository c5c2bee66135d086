"""The three services of a DICOMweb server that this package uses (PS3.18 10.4 to 10.6)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from medseg_nca.io.dicom.files.attributes import Attributes
from medseg_nca.io.dicom.files.reader import scanned
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.scan import series_uid_of_damaged
from medseg_nca.io.dicomweb.connection import DicomWebConnection
from medseg_nca.io.dicomweb.errors import DicomWebError
from medseg_nca.io.dicomweb.parts import DICOM, PartFiles, PartsBody, TooManyParts, WrongParts
from medseg_nca.io.dicomweb.server import DicomWebServer
from medseg_nca.io.store_report import StoreReport

JSON = "application/dicom+json"
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
# Of a list of series: bytes and seconds of one page, series of one page and of all.
_LIST_BYTES, _LIST_SECONDS, _PAGE, _MOST_SERIES = 32 * 2**20, 60.0, 500, 10_000
# Modalities of objects that hold no pictures, or none of the patient (PS3.3 C.7.3.1.1.1).
NO_IMAGES = frozenset((
    "ANN", "ASMT", "AU", "DOC", "ECG", "EEG", "EMG", "EOG", "EPS", "FID", "HD", "KER", "KO", "LEN",
    "M3D", "OAM", "OSS", "PLAN", "POS", "PR", "REG", "RESP", "RTDOSE", "RTINTENT", "RTPLAN",
    "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SEG", "SMR", "SR", "SRF", "STAIN",
    "TEXTUREMAP", "VA",
))  # fmt: skip
_MODALITY, _STUDY, _SERIES, _COUNT = "00080060", "0020000D", "0020000E", "00201209"
_FAILED, _STORED, _INSTANCE, _REASON = "00081198", "00081199", "00081155", "00081197"
_NO_DICOM = frozenset(("not-dicom", "empty", "dicomdir"))
# Failure reasons (PS3.18 table 10.5.3-2 and PS3.7 annex C) that say it is there already.
_THERE = frozenset((0x0111,))


def may_be_uid(value: object) -> TypeGuard[str]:
    """Whether a value can be a UID: 64 digits and dots at most.

    Real archives hold some with leading zeros, which PS3.5 9.1 does not allow.
    """
    return isinstance(value, str) and len(value) <= 64 and _UID.fullmatch(value) is not None


@dataclass(frozen=True)
class RemoteSeries:
    """A series that a server says it has.

    Attributes:
        uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID.
        modality: "" where it does not say.
        instances: how many; None where it does not say.
    """

    uid: str
    study_uid: str
    modality: str = ""
    instances: int | None = None

    @property
    def may_be_image(self) -> bool:
        """Whether it can hold pictures of a patient."""
        return self.modality not in NO_IMAGES


@dataclass(frozen=True)
class FetchLimits:
    """What is taken of a series.

    Attributes:
        bytes: of all its files.
        instances: of it.
        seconds: until all is there.
    """

    bytes: int = 4_000_000_000
    instances: int = 5000
    seconds: float = 600.0


class DicomWebClient:
    """A server to search, fetch from and store to; may be used from several threads.

    Args:
        server: where it is.

    Raises:
        DependencyError, ConfigError: as :class:`DicomWebConnection`.
    """

    def __init__(self, server: DicomWebServer) -> None:
        self.server = server
        self._connection = DicomWebConnection(server)

    @property
    def name(self) -> str:
        """What logs call the server."""
        return self.server.url

    @property
    def timeout(self) -> float:
        """Seconds without a byte after which it is given up."""
        return self.server.timeout

    def close(self) -> None:
        """End all connections."""
        self._connection.close()

    def all_series(self) -> tuple[RemoteSeries, ...]:
        """The series that may hold images, by QIDO-RS; 10,000 at most.

        Raises:
            DicomWebError: if the server cannot be asked.
        """
        found: dict[str, RemoteSeries] = {}
        end, offset = time.monotonic() + _LIST_SECONDS, 0
        while len(found) < _MOST_SERIES:
            page = self._search({"limit": _PAGE, "offset": offset}, end - time.monotonic())
            before, offset = len(found), offset + len(page)
            found |= {series.uid: series for series in _series_of(page)}
            # A server that knows no pages sends all at once, or the same again.
            if len(page) != _PAGE or len(found) == before:
                break
        return tuple(series for series in found.values() if series.may_be_image)

    def find_series(self, uid: str) -> RemoteSeries | None:
        """One series by its SeriesInstanceUID; None if there is none.

        Raises:
            DicomWebError: if the server cannot be asked.
        """
        if not may_be_uid(uid):
            return None
        found = self._search({"SeriesInstanceUID": uid, "limit": 2}, _LIST_SECONDS)
        return next((series for series in _series_of(found) if series.uid == uid), None)

    def fetch(
        self, series: RemoteSeries, folder: Path, limits: FetchLimits | None = None
    ) -> tuple[Path, ...]:
        """Bring the instances of a series into an empty folder, by WADO-RS, as they are stored.

        Args:
            series: that the server has.
            folder: for the files; their names say nothing of the patient.
            limits: what is taken.

        Raises:
            DicomWebError: if it cannot be fetched, is larger than allowed, what came belongs to
                another series, or is less than the server says the series has.
            OSError: if it cannot be written.
        """
        limits = limits or FetchLimits()
        end = time.monotonic() + limits.seconds

        def once() -> tuple[Path, ...]:
            for left in folder.iterdir():
                left.unlink()
            return self._fetch(series, folder, limits, max(end - time.monotonic(), 0.0))

        paths = self._connection.retried(once)
        self._check(series, paths)
        return paths

    def store(self, paths: Sequence[Path]) -> StoreReport:
        """Send objects by STOW-RS, once; an object that is there already counts as taken.

        Raises:
            DicomWebError: if the server did not answer what became of them.
        """
        body, connection = PartsBody(paths), self._connection
        headers = {**body.headers, "Accept": JSON}
        address = self.server.address("studies")
        with connection.open(
            "POST", address, headers=headers, content=body.pieces(), also=(409,)
        ) as answer:
            tree = connection.read_json(answer, _LIST_BYTES, _LIST_SECONDS)
        refused = dict(_refusals(tree))
        if answer.status_code == 409 and not refused:
            raise connection.error("wrong", "takes none of the objects and does not say why")
        return StoreReport({uid: why for uid, why in refused.items() if why not in _THERE})

    def _search(self, query: dict[str, str | int], seconds: float) -> list[Any]:
        """The entries of an answer, whatever they are."""
        connection = self._connection
        fields = {"includefield": ",".join((_STUDY, _MODALITY, _COUNT))}

        def once() -> Any:
            with connection.open(
                "GET", self.server.address("series"), headers={"Accept": JSON},
                params={**fields, **query},
            ) as answer:  # fmt: skip
                return connection.read_json(answer, _LIST_BYTES, max(seconds, 0.0))

        try:
            tree = connection.retried(once)
        except DicomWebError as error:
            if error.trouble != "missing":
                raise
            # A search that finds nothing is answered, so that this is not about a series.
            raise connection.error("wrong", "knows no search for series (HTTP 404)") from error
        if tree is not None and not isinstance(tree, list):
            raise connection.error("wrong", "answers a search with what is no list")
        return tree or []

    def _fetch(
        self, series: RemoteSeries, folder: Path, limits: FetchLimits, seconds: float
    ) -> tuple[Path, ...]:
        connection = self._connection
        address = self.server.address("studies", series.study_uid, "series", series.uid)
        accept = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
        with connection.open("GET", address, headers={"Accept": accept}) as answer:
            try:
                kind = answer.headers.get("content-type", "")
                files = PartFiles(folder, kind, limits.instances)
                try:
                    for piece in connection.read(answer, limits.bytes, seconds):
                        files.feed(piece)
                    return files.finish()
                finally:
                    files.close()
            except WrongParts as error:
                raise connection.error("wrong", f"sends no series. {error}"[:-1]) from error
            except TooManyParts as error:
                text = f"sends more than {limits.instances:,} instances"
                raise connection.error("too-large", text) from error

    def _check(self, series: RemoteSeries, paths: Iterable[Path]) -> None:
        """Refuse other and missing instances; damaged ones are refused where they are read."""
        found, instances = set(), set()
        for path in paths:
            try:
                with scanned(path) as header:
                    attributes = Attributes(header)
                    found.add(attributes.text("SeriesInstanceUID"))
                    instances.add(attributes.text("SOPInstanceUID") or path.name)
            except DicomError as error:
                strange = error.problem.kind in _NO_DICOM
                found.add("" if strange else series_uid_of_damaged(path))
                instances.add(path.name)
        if not found:
            raise self._connection.error("missing", "has no instance of this series")
        if found != {series.uid}:
            raise self._connection.error("wrong", "sends instances of another series")
        # Slices that are missing at an end of the series would be seen nowhere else.
        if len(instances) < (series.instances or 0):
            text = f"sends {len(instances)} instances of a series that has {series.instances}"
            raise self._connection.error("incomplete", text)


def _series_of(tree: Iterable[Any]) -> Iterator[RemoteSeries]:
    """Entries of an answer that name a series; all others are passed over."""
    for item in tree:
        uid, study = _value(item, _SERIES), _value(item, _STUDY)
        if not (may_be_uid(uid) and may_be_uid(study)):
            continue
        modality, count = _value(item, _MODALITY), _value(item, _COUNT)
        try:
            number = int(count)
        except (TypeError, ValueError, OverflowError):
            number = None
        yield RemoteSeries(uid, study, modality if isinstance(modality, str) else "", number)


def _refusals(tree: Any) -> Iterator[tuple[str, int | None]]:
    items = tree.get(_FAILED) if isinstance(tree, dict) else None
    values = items.get("Value") if isinstance(items, dict) else None
    for item in values if isinstance(values, list) else ():
        uid, reason = _value(item, _INSTANCE), _value(item, _REASON)
        yield str(uid)[:64], reason if isinstance(reason, int) else None


def _value(item: Any, tag: str) -> Any:
    """The first value of an attribute in DICOM JSON (PS3.18 F.2); None if there is none."""
    attribute = item.get(tag) if isinstance(item, dict) else None
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values[0] if isinstance(values, list) and values else None
