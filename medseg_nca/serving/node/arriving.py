"""One instance while it arrives: a file that is complete and on the disk, or that is not there."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from medseg_nca.errors import OutputError

# What a system says when there is no room: no space on the disk, or none left in a quota.
_FULL = (errno.ENOSPC, errno.EDQUOT)
_BUFFER = 2**20
# The free space of the disk is asked for again after this many bytes of one instance.
_LOOK = 2**24
_PREAMBLE = 128
# Length of the group (0002,0000), with which each file meta information begins (PS3.10 7.1).
_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
_SYNTAX = b"\x02\x00\x10\x00UI"


class SpoolFull(OutputError):  # noqa: N818
    """There is no room for an instance: the disk or a quota is full, or nearly so."""


@contextmanager
def told_when_full() -> Iterator[None]:
    """Turn errors of the file system into ours.

    Raises:
        SpoolFull: if there is no room.
        OutputError: if something else is wrong with the disk.
    """
    try:
        yield
    except OSError as error:
        hint = "Free space on the disk of the spool, or remove series that wait in it."
        if error.errno in _FULL:
            raise SpoolFull("The spool cannot grow: its disk is full.", hint=hint) from error
        reason = error.strerror or type(error).__name__
        raise OutputError(f"The spool cannot be written ({reason}).", hint=hint) from error


def check_room(folder: Path, reserve_bytes: int) -> None:
    """Find out whether a disk has room.

    Raises:
        SpoolFull: if fewer bytes than the reserve are free.
    """
    free = shutil.disk_usage(folder).free
    if free < reserve_bytes:
        raise SpoolFull(
            f"The spool may not grow: {free:,} bytes are free on its disk, and {reserve_bytes:,} "
            "are to stay free.",
            hint="Free space on the disk, or lower the reserve.",
        )


class Arrival:
    """A file of the spool that is being written, under a name of its own.

    Args:
        folder: for files that are not complete.
        reserve_bytes: that are to stay free on the disk.

    Raises:
        SpoolFull: if there is no room.
    """

    def __init__(self, folder: Path, reserve_bytes: int) -> None:
        self.path = folder / secrets.token_hex(16)
        self.size = 0
        self._reserve, self._look = reserve_bytes, _LOOK
        with told_when_full():
            check_room(folder, reserve_bytes)
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = open(handle, "wb", buffering=_BUFFER)  # noqa: SIM115

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            SpoolFull: if there is no room.
        """
        with told_when_full():
            self._file.write(data)
            self.size += len(data)
            if self.size >= self._look:
                self._look = self.size + _LOOK
                check_room(self.path.parent, self._reserve)

    def flush(self) -> None:
        """Make what was written readable by its path.

        Raises:
            SpoolFull: if there is no room.
        """
        with told_when_full():
            self._file.flush()

    def finish(self) -> None:
        """Wait until the file is on the disk.

        Raises:
            SpoolFull: if there is no room.
        """
        if self._file.closed:
            return
        with told_when_full():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def discard(self) -> None:
        """Remove the file, if it has not become one of the spool."""
        with suppress(OSError):  # a full disk takes no buffered bytes
            self._file.close()
        with suppress(OSError):
            self.path.unlink()


def content_digest(path: Path) -> str:
    """SHA-256 of the data set of a DICOM file and its transfer syntax.

    The rest of the file meta information says who sent a file, and when: the same instance has the
    same digest whoever sends it.
    """
    with path.open("rb") as file:
        found = hashlib.sha256(_to_data_set(file))
        while block := file.read(_BUFFER):
            found.update(block)
    return found.hexdigest()


def _to_data_set(file: BinaryIO) -> bytes:
    """Go behind the file meta information; returns the transfer syntax."""
    head = file.read(_PREAMBLE + 4 + len(_GROUP_LENGTH) + 4)
    if head[_PREAMBLE:-4] != b"DICM" + _GROUP_LENGTH:
        file.seek(0)
        return b""
    meta = file.read(min(struct.unpack("<I", head[-4:])[0], _BUFFER))
    place = meta.find(_SYNTAX) + len(_SYNTAX)
    if place < len(_SYNTAX) or place + 2 > len(meta):
        return b""
    length = struct.unpack_from("<H", meta, place)[0]
    return meta[place + 2 : place + 2 + length].rstrip(b"\0 ")
