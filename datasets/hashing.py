"""The hash that says which data a result was made from."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from medseg_nca.errors import DataError


class HashableCase(Protocol):
    """What of a case is hashed."""

    @property
    def id(self) -> str:
        """The case's name."""

    @property
    def images(self) -> Sequence[Path]:
        """Its image files, in channel order."""

    @property
    def label(self) -> Path | None:
        """Its label map, if it has one."""


class HasCases(Protocol):
    """A :class:`~medseg_nca.datasets.base.DataSet`, or anything else with cases that have files."""

    @property
    def cases(self) -> Iterable[HashableCase]:
        """The cases."""


# Absolute path, size in bytes and time of change in nanoseconds.
FileState = tuple[str, int, int]


class KnownHashes:
    """The hashes of files by their state: a file is read once in a process until it changes.

    Threads may share it.

    Args:
        most: so many are kept, the newest. Each takes about 300 bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._hashes: dict[FileState, str] = {}

    def find(self, state: FileState) -> str | None:
        """Return the hash of a file in this state, None if it is not known."""
        return self._hashes.get(state)

    def add(self, state: FileState, digest: str) -> None:
        """Keep the hash of a file; the oldest one is forgotten if there are too many."""
        with self._lock:
            self._hashes[state] = digest
            while len(self._hashes) > self.most:
                del self._hashes[next(iter(self._hashes))]


# More than a large data set has; a process that runs for years meets more files than this.
_known = KnownHashes(100_000)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal text.

    Raises:
        DataError: if the file cannot be read.
    """
    try:
        state = _state(path)
        known = _known.find(state)
        if known is not None:
            return known
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        _known.add(state, digest)
        return digest
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def remember_hash(path: Path, digest: str) -> None:
    """Take a hash that another process has just found, so that the file is not read here too."""
    with suppress(OSError):
        _known.add(_state(path), digest)


def dataset_hash(dataset: HasCases) -> str:
    """Return the SHA-256 of a data set: its cases' ids and the content of their files.

    Names and places of the files do not count, nor does the order of the cases.

    Raises:
        DataError: if a file cannot be read.
    """
    cases = sorted(dataset.cases, key=lambda case: case.id)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # hashing releases the GIL
        lines = list(pool.map(_case_line, cases))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _state(path: Path) -> FileState:
    found = path.stat()
    return os.path.abspath(path), found.st_size, found.st_mtime_ns


def _case_line(case: HashableCase) -> str:
    label = file_hash(case.label) if case.label else "-"
    return f"{case.id} {','.join(file_hash(file) for file in case.images)} {label}\n"
