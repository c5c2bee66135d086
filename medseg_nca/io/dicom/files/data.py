"""Random access to the bytes of a data set, on disk or inflated, without taking more than allowed.

Transfer syntax "Deflated Explicit VR Little Endian" (PS3.5 A.5) packs the whole data set: half a
megabyte can claim half a gigabyte. pydicom inflates all of it even for a header alone; here it is
inflated as far as it is read, and never beyond a cap.
"""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import BinaryIO

from medseg_nca.io.dicom.problems import damaged, too_large, truncated

# Deflate packs images 2 to 20 times, sparse masks perhaps 100 times, zeros 1032 times.
FREE_INFLATION = 64 * 2**20
MAX_RATIO = 100
_CHUNK = 64 * 1024


class OpenDataSet:
    """The data set within an open file: from ``start`` to the end.

    Attributes:
        stream: seekable, positions as in the data set's offsets.
        start: offset of the first element.
    """

    def __init__(self, stream: BinaryIO, start: int) -> None:
        self.stream, self.start = stream, start
        # Not by seeking to the end: what is buffered of the start would be read again.
        self._size = os.fstat(stream.fileno()).st_size

    def holds(self, position: int) -> bool:
        """Whether there are bytes up to ``position``."""
        return position <= self._size

    @property
    def size(self) -> int:
        """Offset of the end, as far as it is known."""
        return self._size

    def peek(self, position: int, count: int) -> bytes:
        """Bytes from ``position`` on, at least 16 of them unless the data ends."""
        self.holds(position + 16)
        self.stream.seek(position)
        return self.stream.read(count)

    def read(self, position: int, count: int) -> bytes:
        """At most ``count`` bytes from ``position`` on; fewer at the end."""
        if not self.holds(position + count):
            count = max(self._size - position, 0)
        self.stream.seek(position)
        return self.stream.read(count)


class InflatedSource(OpenDataSet):
    """A deflated data set, inflated into memory as far as it is asked for."""

    def __init__(self, stream: BinaryIO, start: int, path: Path) -> None:
        packed = stream.seek(0, io.SEEK_END) - start
        stream.seek(start)
        self._packed, self._path = stream, path
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._limit = max(FREE_INFLATION, MAX_RATIO * packed)
        self._size = 0
        self.stream, self.start = io.BytesIO(), 0

    def holds(self, position: int) -> bool:
        """Inflate up to ``position``; False if there is not so much."""
        if position > self._limit and not self._done():
            raise too_large(
                self._path,
                f"its deflated data grows beyond {self._limit:,} bytes, "
                f"{MAX_RATIO} times its size or more.",
            )
        self.stream.seek(0, io.SEEK_END)
        while self._size < position and not self._done():
            self._size += self.stream.write(self._step())
        return position <= self._size

    def _done(self) -> bool:
        return self._inflate.eof

    def _step(self) -> bytes:
        """The next piece; a piece of nothing ends the data."""
        packed = self._inflate.unconsumed_tail or self._packed.read(_CHUNK)
        try:
            if packed:
                return self._inflate.decompress(packed, _CHUNK)
            return self._rest()
        except zlib.error as error:
            raise damaged(self._path, f"its deflated data cannot be inflated ({error}).") from error

    def _rest(self) -> bytes:
        rest = self._inflate.flush()
        if not self._inflate.eof:
            raise truncated(self._path, "its deflated data has no end.")
        return rest
