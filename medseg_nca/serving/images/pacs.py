"""The image series of a DICOMweb server: listed when asked for, fetched when used."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg_nca.errors import ConfigError
from medseg_nca.io.dicom.remote import FetchLimits, RemoteSeries
from medseg_nca.io.dicomweb.client import DicomWebClient
from medseg_nca.io.dicomweb.errors import DicomWebError
from medseg_nca.serving.images.cache import SeriesCache
from medseg_nca.serving.images.image import Image
from medseg_nca.serving.images.turns import Turns
from medseg_nca.serving.settings import Limits

logger = logging.getLogger(__name__)

# Seconds for which a list of series is good, and for which it is not asked for after a failure.
_FRESH = 10.0
# Seconds for which a copy is good: archives correct patients and headers without changing how many
# instances there are. It is less where the server does not tell that number.
_COUNTED, _UNCOUNTED = 600.0, 60.0


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
        self._lock, self._turns = threading.Lock(), Turns()
        self._looked = float("-inf")
        self._images: dict[str, Image] = {}
        self._trouble: DicomWebError | None = None

    def all(self) -> dict[str, Image]:
        """All series by UID, as they were a few seconds ago at the earliest.

        Raises:
            Refused: with 503 if too many ask at once.
        """
        with self._turns.turn(), self._lock:
            if time.monotonic() - self._looked > _FRESH:
                self._look()
            if (known := self._trouble) is not None:
                raise DicomWebError(known.trouble, known.message, hint=known.hint)
            return dict(self._images)

    def find(self, image_id: str) -> Image | None:
        """One series, as it is now; None if there is none, or it holds no images.

        Raises:
            Refused: with 503 if too many ask at once.
        """
        with self._turns.turn(), _told():
            series = self._client.find_series(image_id)
        return _image(series) if series is not None and series.may_be_image else None

    @contextmanager
    def using(self, image: Image) -> Iterator[tuple[Path, ...]]:
        """The files of a series, fetched if there is no good copy.

        Raises:
            Refused: with 503 if too many ask at once.
            OutputError: if the copy cannot be written.
        """
        series = image.remote
        assert series is not None
        # Another archive, or another study after a correction, has a copy of its own.
        name = f"{self._client.server.url} {series.study_uid} {series.uid}"
        with self._turns.turn(), self._cache.using(
            name, lambda count, age: _is_good(series, count, age),
            lambda folder: self._fetch(series, folder),
        ) as files:  # fmt: skip
            yield files

    def sweep(self) -> None:
        """Remove copies that were not used for long."""
        self._cache.sweep()

    def _look(self) -> None:
        """Ask for the list, or note why there is none: whoever asks next need not wait for it."""
        try:
            with _told():
                found = self._client.all_series()
        except DicomWebError as error:
            self._trouble = error
        else:
            self._images = {series.uid: _image(series) for series in found}
            self._trouble = None
        self._looked = time.monotonic()

    def _fetch(self, series: RemoteSeries, folder: Path) -> None:
        with _told():
            self._client.fetch(series, folder, self._limits)


def _image(series: RemoteSeries) -> Image:
    return Image(series.uid, True, ".dcm", remote=series)


def _is_good(series: RemoteSeries, count: int, age: float) -> bool:
    if series.instances is None:
        return age < _UNCOUNTED
    return age < _COUNTED and count == series.instances


@contextmanager
def _told() -> Iterator[None]:
    """What went wrong goes to the log with the name of the server, which clients are not told."""
    try:
        yield
    except DicomWebError as error:
        if error.trouble != "missing":
            logger.warning("%s", error)
        raise
    except ConfigError as error:  # of the credentials; the text names their file
        logger.warning("%s", error)
        text = "The credentials for the DICOMweb server cannot be used."
        raise DicomWebError("unauthorised", text) from error
