"""The three services of a DICOMweb server that this package uses (PS3.18 10.4 to 10.6)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg_nca.io.dicom.files.attributes import tag_of
from medseg_nca.io.dicom.query import SeriesQuery
from medseg_nca.io.dicom.remote import (
    Arrived,
    FetchLimits,
    RemoteSeries,
    fault_of,
    look_at,
    may_be_uid,
)
from medseg_nca.io.dicomweb.connection import DicomWebConnection
from medseg_nca.io.dicomweb.errors import DicomWebError
from medseg_nca.io.dicomweb.parts import DICOM, PartFiles, PartsBody, TooManyParts, WrongParts
from medseg_nca.io.dicomweb.server import DicomWebServer
from medseg_nca.io.store_report import StoreReport

JSON = "application/dicom+json"
# Of a list of series: bytes and seconds of one page, series of one page and of all.
_LIST_BYTES, _LIST_SECONDS, _PAGE, _MOST_SERIES = 32 * 2**20, 60.0, 500, 10_000
_MODALITY, _STUDY, _SERIES, _COUNT = "00080060", "0020000D", "0020000E", "00201209"
_FAILED, _STORED, _INSTANCE, _REASON = "00081198", "00081199", "00081155", "00081197"
# Failure reasons (PS3.18 table 10.5.3-2 and PS3.7 annex C) that say it is there already.
_THERE = frozenset((0x0111,))


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
        found = self._pages({}, ())
        return tuple(series for series in found if series.may_be_image)

    def search(self, query: SeriesQuery) -> tuple[RemoteSeries, ...]:
        """The series that a query finds, of any modality, by QIDO-RS (PS3.18 10.6).

        Raises:
            DicomWebError: if the server cannot be asked, or finds more than 10,000.
        """
        found = self._pages(query.keys, query.fields)
        if len(found) >= _MOST_SERIES:
            text = f"finds {_MOST_SERIES:,} series or more"
            raise self._connection.error("too-large", text)
        return found

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
        self, series: RemoteSeries, folder: Path, limits: FetchLimits | None = None,
        arrived: Arrived = lambda count: None,
    ) -> tuple[Path, ...]:  # fmt: skip
        """Bring the instances of a series into an empty folder, by WADO-RS, as they are stored.

        Args:
            series: that the server has.
            folder: for the files; their names say nothing of the patient.
            limits: what is taken.
            arrived: told how many instances have begun to arrive; after a broken connection they
                are counted anew.

        Raises:
            DicomWebError: if it cannot be fetched, is larger than allowed, what came belongs to
                another series, or is less than the server says the series has.
            OSError: if it cannot be written.
        """
        limits = limits or FetchLimits()
        end = time.monotonic() + limits.seconds

        def once() -> tuple[Path, ...]:
            for rest in folder.iterdir():
                rest.unlink()
            left = max(end - time.monotonic(), 0.0)
            return self._fetch(series, folder, replace(limits, seconds=left), arrived)

        paths = self._connection.retried(once)
        if fault := fault_of(series, map(look_at, paths)):
            raise self._connection.error(fault.trouble, fault.text)
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

    def _pages(self, keys: Mapping[str, str], fields: Sequence[str]) -> tuple[RemoteSeries, ...]:
        """All that a search finds, page by page; 10,000 at most."""
        found: dict[str, RemoteSeries] = {}
        end, offset = time.monotonic() + _LIST_SECONDS, 0
        while len(found) < _MOST_SERIES:
            query: dict[str, str | int] = {**keys, "limit": _PAGE, "offset": offset}
            page = self._search(query, end - time.monotonic(), fields)
            before, offset = len(found), offset + len(page)
            found |= {series.uid: series for series in _series_of(page, fields)}
            # A server that knows no pages sends all at once, or the same again.
            if len(page) != _PAGE or len(found) == before:
                break
        return tuple(found.values())

    def _search(
        self, query: Mapping[str, str | int], seconds: float, fields: Sequence[str] = ()
    ) -> list[Any]:
        """The entries of an answer, whatever they are."""
        connection = self._connection
        tags = dict.fromkeys((_STUDY, _MODALITY, _COUNT, *map(_tag, fields)))
        asked = {"includefield": ",".join(tags), **query}

        def once() -> Any:
            with connection.open(
                "GET", self.server.address("series"), headers={"Accept": JSON}, params=asked
            ) as answer:
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
        self, series: RemoteSeries, folder: Path, limits: FetchLimits, arrived: Arrived
    ) -> tuple[Path, ...]:
        connection = self._connection
        address = self.server.address("studies", series.study_uid, "series", series.uid)
        accept = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
        with connection.open("GET", address, headers={"Accept": accept}) as answer:
            try:
                kind = answer.headers.get("content-type", "")
                files = PartFiles(folder, kind, limits.instances)
                try:
                    for piece in connection.read(answer, limits.bytes, limits.seconds):
                        files.feed(piece)
                        arrived(files.count)
                    return files.finish()
                finally:
                    files.close()
            except WrongParts as error:
                raise connection.error("wrong", f"sends no series. {error}"[:-1]) from error
            except TooManyParts as error:
                text = f"sends more than {limits.instances:,} instances"
                raise connection.error("too-large", text) from error


def _series_of(tree: Iterable[Any], fields: Sequence[str] = ()) -> Iterator[RemoteSeries]:
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
        tags = {keyword: _text(item, _tag(keyword)) for keyword in fields}
        yield RemoteSeries(uid, study, modality if isinstance(modality, str) else "", number, tags)


def _refusals(tree: Any) -> Iterator[tuple[str, int | None]]:
    items = tree.get(_FAILED) if isinstance(tree, dict) else None
    values = items.get("Value") if isinstance(items, dict) else None
    for item in values if isinstance(values, list) else ():
        uid, reason = _value(item, _INSTANCE), _value(item, _REASON)
        yield str(uid)[:64], reason if isinstance(reason, int) else None


def _value(item: Any, tag: str) -> Any:
    """The first value of an attribute; None if there is none."""
    return next(iter(_values(item, tag)), None)


def _values(item: Any, tag: str) -> list[Any]:
    """The values of an attribute in DICOM JSON (PS3.18 F.2)."""
    attribute = item.get(tag) if isinstance(item, dict) else None
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values if isinstance(values, list) else []


def _text(item: Any, tag: str) -> str:
    """All values with backslashes between them, as a file has them."""
    values = (value for value in _values(item, tag) if isinstance(value, str | int | float))
    return "\\".join(f"{v:g}" if isinstance(v, float) else str(v).strip() for v in values)


def _tag(keyword: str) -> str:
    return f"{tag_of(keyword):08X}"
