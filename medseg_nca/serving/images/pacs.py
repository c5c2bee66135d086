"""The image series of a DICOMweb server: listed when asked for, fetched when used."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg_nca.io.dicomweb.client import DicomWebClient, FetchLimits, RemoteSeries
from medseg_nca.io.dicomweb.errors import DicomWebError
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.images.cache import SeriesCache
from medseg_nca.serving.images.image import Image
from medseg_nca.serving.settings import Limits

logger = logging.getLogger(__name__)

# Seconds for which a list of series is good.
_FRESH = 10.0
# Seconds for which a copy is good whose number of instances the server does not tell.
_UNCOUNTED = 60.0
# Requests that fetch, or wait for the same series, at a time, and seconds that one more waits: the
# threads that they take are missing elsewhere.
_AT_ONCE, _PATIENCE = 12, 5.0


class PacsSource:
    """Series that may hold images, called by their SeriesInstanceUID; an ``ImageSource``.

    Args:
        client: of the server.
        folder: for copies.
        limits: of copies and of what is fetched.
    """

    def __init__(self, client: DicomWebClient, folder: Path, limits: Limits) -> None:
        self._client = client
        self._cache = SeriesCache(folder, limits.cached_bytes, limits.session_age)
        self._limits = FetchLimits(
            min(limits.inflated_bytes, limits.cached_bytes), limits.members, limits.fetch
        )
        self._lock, self._turns = threading.Lock(), threading.BoundedSemaphore(_AT_ONCE)
        self._looked = float("-inf")
        self._images: dict[str, Image] = {}

    def all(self) -> dict[str, Image]:
        """All series by UID, as they were a few seconds ago at the earliest."""
        with self._lock:
            if time.monotonic() - self._looked > _FRESH:
                with _told():
                    found = self._client.all_series()
                self._images = {series.uid: _image(series) for series in found}
                self._looked = time.monotonic()
            return dict(self._images)

    def find(self, image_id: str) -> Image | None:
        """One series, as it is now; None if there is none, or it holds no images."""
        with _told():
            series = self._client.find_series(image_id)
        return _image(series) if series is not None and series.may_be_image else None

    @contextmanager
    def using(self, image: Image) -> Iterator[tuple[Path, ...]]:
        """The files of a series, fetched if there is no good copy.

        Raises:
            Refused: with 503 if too many are being fetched.
            OutputError: if the copy cannot be written.
        """
        series = image.remote
        assert series is not None
        if not self._turns.acquire(timeout=_PATIENCE):
            raise Refused(503, "Many series are being fetched just now.", retry_after=10)
        try:
            with self._cache.using(
                series.uid, lambda count, age: _is_good(series, count, age),
                lambda folder: self._fetch(series, folder),
            ) as files:  # fmt: skip
                yield files
        finally:
            self._turns.release()

    def sweep(self) -> None:
        """Remove copies that were not used for long."""
        self._cache.sweep()

    def _fetch(self, series: RemoteSeries, folder: Path) -> None:
        with _told():
            self._client.fetch(series, folder, self._limits)


def _image(series: RemoteSeries) -> Image:
    return Image(series.uid, True, ".dcm", remote=series)


def _is_good(series: RemoteSeries, count: int, age: float) -> bool:
    return age < _UNCOUNTED if series.instances is None else count == series.instances


@contextmanager
def _told() -> Iterator[None]:
    """What went wrong goes to the log with the name of the server, which clients are not told."""
    try:
        yield
    except DicomWebError as error:
        if error.trouble != "missing":
            logger.warning("%s", error)
        raise
