"""Work that is finished is known again by the content of what it was made from.

Beside its results every piece of finished work leaves one small record for as long as the results
are kept. The record names the content and the settings that the results were made from, by one key.
Dates of files do not count: a file that was only touched or copied is not worked on again, and a
file whose content has changed is, whatever its date and size say.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from medseg_nca.config import Settings
from medseg_nca.datasets.hashing import file_hash
from medseg_nca.errors import DataError
from medseg_nca.io.atomic import write_json
from medseg_nca.work.case_records import invalidate


class FinishedRecord(Settings):
    """What the record of every kind of work holds; each kind adds fields of its own.

    ``key`` stands for all that the results were made from: see
    :func:`medseg_nca.work.case_records.content_key`.
    """

    key: str


R = TypeVar("R", bound=FinishedRecord)


def content_of(path: Path) -> str:
    """Return the SHA-256 of a file; "" if it cannot be read, which working on it will explain."""
    try:
        return file_hash(path)
    except DataError:
        return ""


def finished_or(
    place: Path, kind: type[R], key: str, whole: Callable[[R], bool], work: Callable[[], R]
) -> tuple[R, bool]:
    """Return the record of finished work if it still fits; otherwise do the work and keep a record.

    An older record is made invalid before the work begins, because it would fit again if the files
    became what they were while the results are already others.

    Args:
        place: file of the record.
        kind: type of the record; a file that holds something else counts as no record.
        key: of the content and the settings that the results must be made from.
        whole: whether the results that a record describes are all there.
        work: does the work and returns its record, which must have this key.

    Returns:
        The record, and whether an earlier run made it.

    Raises:
        OutputError: if the record cannot be written.
        Exception: whatever ``work`` raises; no record fits then.
    """
    known = _read(place, kind)
    if known is not None and known.key == key and whole(known):
        return known, True
    if place.exists():
        invalidate(place)
    record = work()
    write_json(place, record.model_dump(mode="json"))
    return record, False


def _read(place: Path, kind: type[R]) -> R | None:
    try:
        return kind.model_validate_json(place.read_bytes())
    except (OSError, ValidationError):
        return None
