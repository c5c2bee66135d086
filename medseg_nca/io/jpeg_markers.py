"""What the markers of a JPEG stream say, and whether all that they promise is there.

A picture is one frame of components, packed in one scan or in many. A scan may be cut into
intervals by restart markers. Where a component, a scan, an interval or the rest of an interval is
missing, decoders fill the picture with grey. The first three are counted here; the last is found
by :func:`with_junk`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SIGNATURE = b"\xff\xd8\xff"
# Markers that begin a frame; 0xC3, 0xC7, 0xCB and 0xCF are without loss.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_LOSSLESS = {0xC3, 0xC7, 0xCB, 0xCF}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_ALONE = {0x01, *range(0xD0, 0xD8)}
_END, _SCAN, _APP1, _INTERVAL = 0xD9, 0xDA, 0xE1, 0xDD
# Packed data end at a marker that is neither a stuffed byte nor a restart.
_AFTER_SCAN = re.compile(rb"\xff(?:[^\x00\xff\xd0-\xd7]|\xff+[^\x00\xff\xd0-\xd7])", re.DOTALL)
_RESTART = re.compile(rb"\xff([\xd0-\xd7])", re.DOTALL)
_RESTARTS = 8  # they are numbered 0 to 7, again and again
_BLOCK = 8  # samples along each side; a picture without loss has none
_COEFFICIENTS = _BLOCK * _BLOCK
# No 0xFF in it, so that all of it is packed data; any other numbers would do.
JUNK = bytes((37 * k * k + 11 * k + 85) % 255 for k in range(96))


@dataclass(frozen=True)
class _Frame:
    """What the picture is: the marker, and of each component its sampling across and down."""

    marker: int
    precision: int
    height: int
    width: int
    sampling: dict[int, tuple[int, int]]

    @property
    def lossless(self) -> bool:
        return self.marker in _LOSSLESS

    def units(self, components: Sequence[int]) -> int:
        """How many units, of which restarts count the intervals, a scan of components has."""
        most = [max(rates) for rates in zip(*self.sampling.values(), strict=True)]
        sides = []
        for axis, length in enumerate((self.width, self.height)):
            if len(components) == 1:
                own, edge = self.sampling[components[0]][axis], 1
                length = math.ceil(length * own / most[axis])
            else:
                edge = most[axis]
            sides.append(math.ceil(length / (edge * (1 if self.lossless else _BLOCK))))
        return math.prod(sides)


@dataclass(frozen=True)
class _Scan:
    """Packed data.

    Attributes:
        components: whose.
        first, last: of the coefficients.
        low: the lowest bit that they have after this scan.
        interval: units between two restarts; 0 if there are none.
        start, end: of the packed data.
    """

    components: tuple[int, ...]
    first: int
    last: int
    low: int
    interval: int
    start: int
    end: int


@dataclass(frozen=True)
class Outline:
    """What the markers say.

    Attributes:
        lossless: whether the numbers are those that were packed.
        precision: bits of a sample.
        width, height, components: of the picture.
        scans: where packed data begin and end.
        end: where the picture ends in the file.
        exif: the first such block, b"" if there is none.
    """

    lossless: bool
    precision: int
    width: int
    height: int
    components: int
    scans: tuple[tuple[int, int], ...]
    end: int
    exif: bytes = b""


def outline(content: bytes) -> Outline:
    """Walk through the markers of a JPEG stream.

    Raises:
        ValueError: if it ends before its end marker, has no picture, or lacks a component, a scan
            or an interval.
    """
    frame: _Frame | None = None
    scans: list[_Scan] = []
    interval, exif, end = 0, b"", 2
    for marker, body, start, end in _markers(content):
        if marker in _FRAMES and frame is None:
            frame = _frame(marker, body)
        elif marker == _INTERVAL:
            interval = int.from_bytes(body[:2], "big")
        elif marker == _APP1 and body.startswith(b"Exif\x00\x00"):
            exif = exif or body
        elif marker == _SCAN:
            scans.append(_scan(body, interval, start, end))
    if frame is None or not scans:
        raise ValueError("no picture in it")
    _check_scans(frame, scans)
    for scan in scans:
        _check_restarts(content, frame, scan)
    places = tuple((scan.start, scan.end) for scan in scans)
    return Outline(
        frame.lossless, frame.precision, frame.width, frame.height, len(frame.sampling), places,
        end, exif,
    )  # fmt: skip


def with_junk(content: bytes, found: Outline) -> bytes:
    """The stream with more data before the end of each scan and of each interval.

    Decoders pass over it in a stream that is whole. Where data are missing it is taken for them.
    """
    parts, done = [], 0
    for start, end in found.scans:
        inner = _RESTART.sub(lambda restart: JUNK + restart[0], content[start:end])
        parts += [content[done:start], inner, JUNK]
        done = end
    return b"".join([*parts, content[done:]])


def _markers(content: bytes) -> Iterator[tuple[int, bytes, int, int]]:
    """The markers up to the last, what belongs to each, and where its packed data begin and end."""
    position = 2
    while True:
        while content[position : position + 2] == b"\xff\xff":
            position += 1
        if len(content) < position + 2:
            raise ValueError("it ends before its end marker")
        if content[position] != 0xFF:
            raise ValueError(f"no marker at byte {position:,}")
        marker = content[position + 1]
        position += 2
        if marker == _END:
            yield marker, b"", position, position
            return
        if marker in _ALONE:
            continue
        length = int.from_bytes(content[position : position + 2], "big")
        if length < 2 or position + length > len(content):
            raise ValueError("it ends before its end marker")
        body = content[position + 2 : position + length]
        start = position = position + length
        if marker == _SCAN:
            position = _end_of_scan(content, start)
        yield marker, body, start, position


def _end_of_scan(content: bytes, start: int) -> int:
    found = _AFTER_SCAN.search(content, start)
    if found is None:
        raise ValueError("it ends before its end marker")
    return found.start()


def _frame(marker: int, body: bytes) -> _Frame:
    count = body[5] if len(body) > 5 else 0
    if not count or len(body) < 6 + 3 * count:
        raise ValueError("no picture in it")
    sampling = {}
    for place in range(6, 6 + 3 * count, 3):
        across, down = divmod(body[place + 1], 16)
        if not (across and down):
            raise ValueError("its components have no sampling")
        sampling[body[place]] = (across, down)
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    return _Frame(marker, body[0], height, width, sampling)


def _scan(body: bytes, interval: int, start: int, end: int) -> _Scan:
    count = body[0] if body else 0
    if len(body) < 4 + 2 * count:
        raise ValueError("a scan has no header")
    first, last, bits = body[1 + 2 * count : 4 + 2 * count]
    components = tuple(body[1 : 1 + 2 * count : 2])
    return _Scan(components, first, last, bits % 16, interval, start, end)


def _check_scans(frame: _Frame, scans: Sequence[_Scan]) -> None:
    """Every component must be there; of a progressive picture, all bits of every coefficient."""
    strange = {name for scan in scans for name in scan.components} - set(frame.sampling)
    if strange:
        raise ValueError(f"a scan of the unknown component {min(strange)}")
    progressive = frame.marker in _PROGRESSIVE
    for name in frame.sampling:
        own = [scan for scan in scans if name in scan.components]
        low = {k: scan.low for scan in own for k in range(scan.first, scan.last + 1)}
        if not own or (progressive and any(low.get(k) != 0 for k in range(_COEFFICIENTS))):
            raise ValueError("scans of it are missing")


def _check_restarts(content: bytes, frame: _Frame, scan: _Scan) -> None:
    found = [m[1][0] % _RESTARTS for m in _RESTART.finditer(content, scan.start, scan.end)]
    count = math.ceil(frame.units(scan.components) / scan.interval) - 1 if scan.interval else 0
    # Some encoders write one behind the last interval too.
    if len(found) not in (count, count + 1):
        raise ValueError(f"{len(found):,} of {count:,} restart markers in a scan")
    if any(number != k % _RESTARTS for k, number in enumerate(found)):
        raise ValueError("parts of a scan are missing")
