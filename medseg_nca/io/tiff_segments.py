"""The strips and tiles of a TIFF: all must be there, whole, and decode to their end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.io.jpeg_markers import outline, with_junk
from medseg_nca.io.picture import damaged, is_lossless_webp

_FAX, _JPEG, _J2K, _WEBP = {2, 3, 4}, 7, {33003, 33004, 33005, 34712}, {34927, 50001}
# Codecs that pack with or without loss, and whose packed data tell which of the two it was.
LOSSY_OR_NOT = {_JPEG, *_J2K, *_WEBP}
# Decoders of fax codes report no data that end too early. To find that out, meaningless data are
# added. No single addition is reported at every place; with five of them one is.
_NONSENSE = tuple(
    np.random.default_rng(seed).integers(0, 255, 64, np.uint8).tobytes() for seed in range(5)
)
# In the header of JPEG 2000: the coding style, whose tenth byte names the wavelet.
_COD, _REVERSIBLE = b"\xff\x52", 1
# Markers of JPEG 2000: the beginning of a picture, that of a part of a tile, and the end.
_SOC, _SOT, _EOC = b"\xff\x4f\xff", b"\xff\x90", b"\xff\xd9"


def check_segments(path: Path, series: Any) -> None:
    """Refuse a file in which a strip or tile is missing, cut short or not decoded to its end.

    Raises:
        ImageError: with the first that is not whole.
    """
    size = path.stat().st_size
    if series.dataoffset is not None:
        if series.dataoffset + series.nbytes > size:
            raise damaged(path, f"its pixels end at byte {series.dataoffset + series.nbytes:,}")
        return
    for number, page in enumerate(series.pages):
        where = f"page {number + 1}" if len(series.pages) > 1 else "the picture"
        _check_places(path, page, size, where)
        codec = int(page.compression)
        if codec in _FAX or codec == _JPEG:
            _check_ends(path, page, codec in _FAX, where)
        if codec in _J2K:
            _check_tile_parts(path, page, where)


def is_lossless(path: Path, page: Any) -> bool:
    """Whether the numbers of a page are those that were packed, where the codec can do both."""
    codec = int(page.compression)
    with path.open("rb") as file:
        segments = [data for _, data in _segments(file, page)]
    if codec == _JPEG:
        return all(outline(data).lossless for data in segments)
    if codec in _J2K:
        return all(_is_reversible(data) for data in segments)
    return codec in _WEBP and all(map(is_lossless_webp, segments))


def _check_places(path: Path, page: Any, size: int, where: str) -> None:
    expected = math.prod(page.chunked)
    offsets, counts = page.dataoffsets, page.databytecounts
    if min(len(offsets), len(counts)) < expected:
        raise damaged(path, f"{where} has {len(offsets)} of {expected} strips or tiles")
    if page.is_contiguous:
        if offsets[0] + page.nbytes > size:
            end = offsets[0] + page.nbytes
            raise damaged(path, f"{where} ends at byte {end:,} of {size:,}")
        return
    for offset, count in zip(offsets[:expected], counts[:expected], strict=True):
        if not offset or not count:
            raise damaged(path, f"{where} lacks strips or tiles")
        if offset + count > size:
            raise damaged(path, f"{where} ends at byte {offset + count:,} of {size:,}")


def _check_ends(path: Path, page: Any, fax: bool, where: str) -> None:
    """Decode each segment with more data behind it: that changes nothing where it is whole."""
    with path.open("rb") as file:
        for index, data in _segments(file, page):
            longer = (data + more for more in _NONSENSE) if fax else [_longer(path, data)]
            as_is = _decoded(page, data, index)
            others = (_decoded(page, more, index) for more in longer)
            if as_is is None or not all(_same(as_is, other) for other in others):
                raise damaged(path, f"the data of {where} end before its pixels do")


def _check_tile_parts(path: Path, page: Any, where: str) -> None:
    """Refuse a tile without all of its parts: decoders of JPEG 2000 do not report missing ones."""
    with path.open("rb") as file:
        if not all(_has_all_parts(data) for _, data in _segments(file, page)):
            raise damaged(path, f"the data of {where} end before its pixels do")


def _has_all_parts(data: bytes) -> bool:
    """Whether the parts of the tiles, each as long as it says, are followed by the end marker."""
    place = data.find(_SOC) + 2
    while place >= 2 and data[place : place + 2] not in (_SOT, b""):
        place += 2 + max(int.from_bytes(data[place + 2 : place + 4], "big"), 2)
    while data[place : place + 2] == _SOT:
        length = int.from_bytes(data[place + 6 : place + 10], "big")
        if not length:  # up to the end
            return data.rstrip(b"\0").endswith(_EOC)
        place += length
    return data[place : place + 2] == _EOC


def _same(array: NDArray[Any], other: NDArray[Any] | None) -> bool:
    return other is not None and np.array_equal(array, other)


def _longer(path: Path, data: bytes) -> bytes:
    try:
        return with_junk(data, outline(data))
    except ValueError as error:
        raise damaged(path, error) from error


def _decoded(page: Any, data: bytes, index: int) -> NDArray[Any] | None:
    keyframe = page.keyframe
    tables = {} if not page.jpegtables else {"jpegtables": page.jpegtables}
    try:
        array: NDArray[Any] | None = keyframe.decode(data, index, **tables)[0]
    except Exception:  # the codecs raise whatever they like
        return None
    return array


def _segments(file: Any, page: Any) -> Iterator[tuple[int, bytes]]:
    for index, (offset, count) in enumerate(
        zip(page.dataoffsets, page.databytecounts, strict=False)
    ):
        file.seek(offset)
        yield index, file.read(count)


def _is_reversible(data: bytes) -> bool:
    place = data.find(_COD)
    return place >= 0 and data[place + 13 : place + 14] == bytes([_REVERSIBLE])
