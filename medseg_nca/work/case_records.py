"""Records of finished cases, so that the same command goes on where it was stopped.

While a command runs, a folder inside its results holds one small record for each finished case. It
names what the case was made from: content of the input, settings, model. At the end the records go
into the list of results and the folder is removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from medseg_nca.errors import OutputError
from medseg_nca.io.atomic import write_json

UNFINISHED = ".unfinished"
# The key in the record of a case whose results are being replaced; no case has this key.
_NOTHING = ""


@dataclass(frozen=True)
class WrittenFile:
    """A result: its name below the folder of the results, and its size."""

    name: str
    bytes: int

    @classmethod
    def of(cls, path: Path, folder: Path) -> Self:
        """Describe a file that was written."""
        return cls(path.relative_to(folder).as_posix(), path.stat().st_size)

    def is_whole(self, folder: Path) -> bool:
        """Return whether the file is still there with all its bytes."""
        try:
            return (folder / self.name).stat().st_size == self.bytes
        except OSError:
            return False


def content_key(*parts: Any) -> str:
    """Return the SHA-256 of a tree of plain values."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def work_folder(out: Path) -> Path:
    """Return the folder in which a command keeps files that it needs until it has finished."""
    return out / UNFINISHED


def record_path(out: Path, name: str, suffix: str = ".json") -> Path:
    """Return the path of a case's record; the name of the case may hold any characters."""
    return work_folder(out) / (hashlib.sha256(name.encode()).hexdigest()[:24] + suffix)


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a record, and return None if there is none.

    A record that is damaged or was invalidated is returned empty, so that it fits no case.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def invalidate(path: Path) -> None:
    """Invalidate the record of a case before its results are replaced.

    Raises:
        OutputError: if it cannot be written.
    """
    write_json(path, {"key": _NOTHING})


def forget(out: Path, *results: str) -> None:
    """Remove the records in ``out`` and the lists of results, so that every case is done again.

    Raises:
        OutputError: if something cannot be removed.
    """
    try:
        for name in results:
            (out / name).unlink(missing_ok=True)
        if work_folder(out).exists():
            shutil.rmtree(work_folder(out))
    except OSError as error:
        raise OutputError(f"{error.filename}: cannot be removed ({error.strerror}).") from error


def set_aside(path: Path, place: Path) -> None:
    """Move a file, if it exists, to another place on the same disk.

    Raises:
        OutputError: if it cannot be moved.
    """
    if not path.is_file():
        return
    try:
        place.parent.mkdir(exist_ok=True)
        os.replace(path, place)
    except OSError as error:
        raise OutputError(f"{path}: cannot be replaced ({error.strerror}).") from error


def finish(out: Path) -> None:
    """Remove what is no longer needed, and the folder of the results if it is empty."""
    shutil.rmtree(work_folder(out), ignore_errors=True)
    with suppress(OSError):
        out.rmdir()
