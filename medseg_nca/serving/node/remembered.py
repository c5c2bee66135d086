"""Instances that were computed and have left the spool, by the names they had in it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

_TABLE = "CREATE TABLE IF NOT EXISTS instances (key TEXT PRIMARY KEY, at REAL) WITHOUT ROWID"


class Remembered:
    """A set of keys on the disk; may be used from several threads.

    Args:
        path: of its database, which is made with the first key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, keys: Iterable[str]) -> None:
        """Remember keys from now on; they are on the disk when this returns."""
        now = time.time()
        with closing(self._open()) as database, database:
            database.executemany(
                "INSERT OR REPLACE INTO instances VALUES (?, ?)", [(key, now) for key in keys]
            )

    def has(self, key: str) -> bool:
        """Whether a key is remembered."""
        if not self._path.exists():
            return False
        with closing(self._open()) as database:
            found = database.execute("SELECT 1 FROM instances WHERE key = ?", (key,)).fetchone()
        return found is not None

    def forget(self, age: float) -> None:
        """Forget the keys that are older than so many seconds."""
        if self._path.exists():
            with closing(self._open()) as database, database:
                database.execute("DELETE FROM instances WHERE at < ?", (time.time() - age,))

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=60)
        self._path.chmod(0o600)
        database.execute(_TABLE)
        return database
