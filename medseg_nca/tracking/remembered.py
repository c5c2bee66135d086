"""A cache of the answers of a SQLite registry, which count until the registry's file changes.

Asking a registry needs MLflow, and importing any part of MLflow takes longer than a prediction. So
an answer is kept in the user's cache together with the state of the registry's file, and is used
only while the file is in that state.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medseg_nca.errors import OutputError
from medseg_nca.io.atomic import write_json

# https://www.sqlite.org/fileformat.html, section 1.3: the header of a database.
_HEADER = 100
_MAGIC = b"SQLite format 3\0"
_JOURNAL_MODE, _CHANGES = slice(18, 20), slice(24, 28)
_ROLLBACK = b"\1\1"


@dataclass(frozen=True)
class Answer:
    """The folder of a version's two files on this machine, and the sha256 of each as registered."""

    folder: str
    hashes: Mapping[str, str]


def state_of(database: Path) -> str | None:
    """Return a text that changes whenever anything is written to a SQLite file.

    It is made of the file's counter of changes, its size, its time and its identity. It is None if
    these do not show all changes: the file is missing, is being written, or its changes are logged
    in a file beside it (WAL).
    """
    if any(Path(f"{database}{end}").exists() for end in ("-journal", "-wal")):
        return None
    try:
        with database.open("rb") as stream:
            header = stream.read(_HEADER)
            about = os.fstat(stream.fileno())
    except OSError:
        return None
    if not header.startswith(_MAGIC) or header[_JOURNAL_MODE] != _ROLLBACK:
        return None
    numbers = (about.st_ino, about.st_size, about.st_mtime_ns)
    return "-".join([header[_CHANGES].hex(), *map(str, numbers)])


def recall(database: Path, reference: str) -> Answer | None:
    """Return the kept answer to a reference; None if there is none or the file has changed."""
    state = state_of(database)
    known = _read(database)
    if state is None or known.get("state") != state:
        return None
    try:
        answer = known["answers"][reference]
        hashes = {str(name): str(digest) for name, digest in answer["hashes"].items()}
        return Answer(str(answer["folder"]), hashes)
    except (KeyError, TypeError, AttributeError):
        return None


def remember(database: Path, state: str | None, reference: str, answer: Answer) -> None:
    """Keep an answer of a registry.

    Args:
        database: the registry's file.
        state: :func:`state_of` the file before the registry was asked; if the state is another one
            now, nothing is kept.
        reference: the name of the model that was asked for.
        answer: the registry's answer.
    """
    if state is None or state_of(database) != state:
        return
    known = _read(database)
    answers = known.get("answers") if known.get("state") == state else None
    kept = {**(answers if isinstance(answers, dict) else {}), reference: asdict(answer)}
    # If the cache cannot be written, or there is no home folder, the registry is asked each time.
    with suppress(OutputError, RuntimeError):
        write_json(_place(database), {"state": state, "answers": kept})


def _read(database: Path) -> dict[str, Any]:
    try:
        tree = json.loads(_place(database).read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _place(database: Path) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.sha256(os.fsencode(database.absolute())).hexdigest()[:24]
    return Path(cache) / "medseg_nca" / "registry" / f"{name}.json"
