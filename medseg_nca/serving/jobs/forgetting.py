"""Texts that may name a patient leave the write-ahead log of the database when their job ends."""

from __future__ import annotations

import sqlite3

from medseg_nca.serving.jobs.records import JobOptions


class Forgetting:
    """Empties the log after a job whose text was overwritten in the database itself.

    SQLite appends changes to the log and reuses it from its beginning, so that an earlier text
    would stay in it until something else is written over it. All calls need the lock of the store.

    Args:
        database: has the jobs of an earlier server.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        found = database.execute(
            "SELECT id FROM jobs WHERE COALESCE(json_extract(options, '$.select'), '') != ''"
        )
        self._held = {row["id"] for row in found}
        self._due = True  # a server that was killed may have left one
        self.empty()

    def note(self, job_id: str, options: JobOptions) -> None:
        """A job was accepted."""
        if options.select:
            self._held.add(job_id)

    def end(self, job_id: str) -> None:
        """A job ended, and its text was overwritten."""
        self._due |= job_id in self._held
        self._held.discard(job_id)
        if self._due:
            self.empty()

    def empty(self) -> None:
        """Empty the log; the next call does it where another program reads, or the disk is full."""
        try:
            busy = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.OperationalError:
            return
        self._due = bool(busy)
