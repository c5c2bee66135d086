"""The objects of one series while an archive sends them, by C-GET or after C-MOVE."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_nca.io.dicom.remote import FetchLimits, RemoteSeries, look_at
from medseg_nca.io.dimse.errors import DimseError, Trouble

if TYPE_CHECKING:
    from pynetdicom.events import Event

# Statuses of C-STORE (PS3.4 B.2.3).
_SUCCESS, _NO_RESOURCES, _NOT_ASKED_FOR = 0x0000, 0xA700, 0xA900


class AwaitedSeries:
    """Writes objects into a folder, as they come; its methods may be called by several threads.

    Args:
        series: that is awaited; objects of others are refused.
        folder: for ``000001.dcm`` and so on.
        limits: what is taken.
        timeout: seconds without a byte after which the archive is given up.
        name: of the archive, for messages.

    Attributes:
        paths: the files.
        strange: how many objects were refused as they belong to another series.
    """

    def __init__(
        self, series: RemoteSeries, folder: Path, limits: FetchLimits, timeout: float, name: str
    ) -> None:
        self._series, self._folder, self._limits = series, folder, limits
        self._timeout, self._name = timeout, name
        self._lock = threading.Lock()
        self._number = self._bytes = 0
        self._began = self._heard = time.monotonic()
        self._error: OSError | None = None
        self._stopped = False
        self.paths: list[Path] = []
        self.strange = 0

    def stop(self) -> None:
        """Take no more objects."""
        self._stopped = True

    def store(self, event: Event) -> int:
        """Take an object (C-STORE); the status of the answer."""
        if self._stopped:
            return _NO_RESOURCES
        with self._lock:
            self._number += 1
            path = self._folder / f"{self._number:06d}.dcm"
        try:
            path.write_bytes(event.encoded_dataset())
        except OSError as error:
            self._error = error
            return _NO_RESOURCES
        if look_at(path).series_uid != self._series.uid:
            path.unlink()
            with self._lock:
                self.strange += 1
            return _NOT_ASKED_FOR
        with self._lock:
            self.paths.append(path)
        return _SUCCESS

    def hear(self, event: Event) -> None:
        """Count what arrives, before it is an object."""
        data: bytes = event.data
        with self._lock:
            self._heard = time.monotonic()
            self._bytes += len(data)

    def check(self) -> None:
        """Raise an error if no more is to be taken.

        Raises:
            DimseError: if nothing has come for too long, or more than is allowed.
            OSError: if an object could not be written.
        """
        if self._error is not None:
            raise self._error
        now, limits = time.monotonic(), self._limits
        if self._bytes > limits.bytes:
            raise self._error_of("too-large", f"sends more than {limits.bytes:,} bytes")
        if self._number > limits.instances:
            raise self._error_of("too-large", f"sends more than {limits.instances:,} instances")
        if now - self._heard > self._timeout:
            raise self._error_of("slow", f"sent nothing for {self._timeout:g} s")
        if now - self._began > limits.seconds:
            raise self._error_of("slow", f"did not send all within {limits.seconds:g} s")

    def _error_of(self, trouble: Trouble, text: str) -> DimseError:
        hint = "Ask again later, or allow more time." if trouble == "slow" else None
        return DimseError(trouble, f"{self._name}: {text}.", hint=hint)
