"""The hash that says which data a result was made from."""

from __future__ import annotations

import hashlib
import os
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


# (absolute path, size, time of change) -> SHA-256: a file is read once in a process.
_known: dict[tuple[str, int, int], str] = {}


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal text.

    Raises:
        DataError: if the file cannot be read.
    """
    try:
        key = _state(path)
        if key not in _known:
            with path.open("rb") as stream:
                _known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        return _known[key]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def remember_hash(path: Path, digest: str) -> None:
    """Take a hash that another process has just found, so that the file is not read here too."""
    with suppress(OSError):
        _known[_state(path)] = digest


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


def _state(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return os.path.abspath(path), found.st_size, found.st_mtime_ns


def _case_line(case: HashableCase) -> str:
    label = file_hash(case.label) if case.label else "-"
    return f"{case.id} {','.join(file_hash(file) for file in case.images)} {label}\n"
