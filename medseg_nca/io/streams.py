"""The voxels of a file as bytes, read to the end of the stream, or refused.

No decoder of another package is asked whether it came to the end: lengths are counted here, and
zlib compares the checksums.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import DAMAGED, MAX_BYTES

BLOCK = 1 << 20
GZIP = b"\x1f\x8b"
# Sizes of the window of zlib: 16 more reads gzip, 32 more tells gzip and zlib by their beginning.
ONLY_GZIP = zlib.MAX_WBITS | 16
ZLIB_OR_GZIP = zlib.MAX_WBITS | 32


def plain(file: BinaryIO, size: int = BLOCK) -> Iterator[bytes]:
    """The bytes of a file from where it stands, in blocks of at most ``size`` bytes."""
    while block := file.read(size):
        yield block


def inflated(file: BinaryIO, wbits: int, size: int = BLOCK) -> Iterator[bytes]:
    """Unpack all members of a packed stream from where the file stands, in blocks.

    A member that follows another is a part of the stream. What follows the last member and begins
    none, such as the padding of a tape, is passed over: nothing of the stream is missing then.

    Args:
        file: open for reading.
        wbits: ``ONLY_GZIP`` or ``ZLIB_OR_GZIP``.
        size: most bytes that are read at a time, and most bytes of a block.

    Raises:
        EOFError: if the stream, or a further member, has no end.
        zlib.error: if it cannot be unpacked, or a checksum or length is wrong.
    """
    packed = file.read(size)
    while packed:
        member = zlib.decompressobj(wbits)
        while not member.eof:
            packed = packed or file.read(size)
            block = member.decompress(packed, size)
            if not (block or packed or member.eof):
                raise EOFError("the packed stream has no end")
            packed = member.unconsumed_tail
            yield block
        packed = member.unused_data or file.read(size)
        if len(packed) < len(GZIP):
            packed += file.read(size)
        if not packed.startswith(GZIP):
            return


def whole(path: Path, blocks: Iterable[bytes], length: int, volume: int) -> bytearray:
    """The first bytes of a stream that is read to its end.

    Args:
        path: the file, for errors.
        blocks: of the stream.
        length: how many bytes are wanted.
        volume: bytes of one volume. So much behind the wanted bytes, unless all of it is zero, is
            another image, of which the header says nothing.

    Raises:
        ImageError: if there are fewer bytes, or another image follows.
    """
    content, filled, more, empty = bytearray(length), 0, 0, True
    for block in blocks:
        part = block[: length - filled]
        content[filled : filled + len(part)] = part
        filled += len(part)
        rest = block[len(part) :]
        more += len(rest)
        empty = empty and rest.count(0) == len(rest)
        if (more >= volume and not empty) or more > MAX_BYTES:
            raise ImageError(
                f"{path}: holds more than its header says: {length:,} bytes, and at least "
                f"{more:,} behind them.",
                hint="Are several images in it? Mend its header, or split it into a file for each.",
            )
    if filled < length:
        raise ImageError(
            f"{path}: is truncated: {filled:,} of {length:,} bytes of voxels.", hint=DAMAGED
        )
    return content
