"""What a node has done with the series of its spool, in the database of the jobs.

A job of the node has an id that is derived from what it is made of, and a line here that is written
in the transaction of the job itself. The line outlives the job: as long as the series may come once
more, the same content makes no second job, whatever was killed, swept or sent again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from medseg_nca.serving.jobs.records import FINISHED
from medseg_nca.serving.jobs.store import JobStore

Outcome = Literal["", "submitted", "not taken"]
# The reason in the note on a submitted series whose images have left the spool.
REMOVED = "Earlier images of the series were removed from the spool."
# Nothing here names a patient: a series is known by its key in the spool, which is a hash.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS node_series (
    key TEXT PRIMARY KEY,
    aet TEXT NOT NULL DEFAULT '',
    signature TEXT NOT NULL DEFAULT '',
    digest TEXT NOT NULL DEFAULT '',
    outcome TEXT NOT NULL DEFAULT '',
    rules TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    noted REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS node_jobs (
    job TEXT PRIMARY KEY,
    series TEXT NOT NULL,
    digest TEXT NOT NULL,
    version INTEGER NOT NULL,
    plan TEXT NOT NULL,
    submitted REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS node_jobs_by_series ON node_jobs (series, digest);
"""


@dataclass(frozen=True)
class SeriesNote:
    """What became of a series, as it was when somebody last decided on it.

    Attributes:
        key: of the series in the spool.
        aet: who sent it; "" if that is not known.
        signature: of its files, see :func:`signature_of`.
        digest: of their content.
        outcome: "submitted" (all of its jobs), "not taken" (no rule fits), "" (not yet).
        rules: fingerprint of the rules that were asked.
        reason: why no rule takes it; or :data:`REMOVED`.
        noted: when, in seconds since 1970.
    """

    key: str
    aet: str = ""
    signature: str = ""
    digest: str = ""
    outcome: Outcome = ""
    rules: str = ""
    reason: str = ""
    noted: float = 0.0


@dataclass(frozen=True)
class SubmittedJob:
    """A job that was submitted once; it may have been swept since.

    Attributes:
        job: its id.
        series: key of its series in the spool.
        digest: of the content of that series.
        version: counts the contents of the series, from 1.
        plan: fingerprint of the models and formats that were wanted then; "" where another job of
            the series was tried again since, by the rules of that time.
        submitted: when, in seconds since 1970.
    """

    job: str
    series: str
    digest: str
    version: int
    plan: str
    submitted: float


def fingerprint(*parts: str | Sequence[str]) -> str:
    """A short hash of texts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def job_id(key: str, digest: str, reference: str, formats: Sequence[str], select: str = "") -> str:
    """The id of a job, derived from the series, its content, the model and the formats.

    The model counts by its reference, so that an alias that moves makes no second job.
    """
    whole = json.dumps([key, digest, reference, list(formats), select]).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(whole).digest()[:16]).rstrip(b"=").decode()


class Ledger:
    """Notes on series and jobs of a node; may be used from several threads.

    Args:
        store: of the jobs, in whose database they are kept.
        clock: seconds since 1970.
    """

    def __init__(self, store: JobStore, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        with store.transaction() as database:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                database.execute(statement)

    def called(self, key: str, aet: str) -> None:
        """Note who sends a series."""
        with self._store.transaction(durable=False) as database:
            database.execute(
                "INSERT INTO node_series (key, aet, noted) VALUES (?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET aet = excluded.aet",
                (key, aet, self._clock()),
            )

    def series(self) -> dict[str, SeriesNote]:
        """All notes on series by their keys."""
        return {row["key"]: series_note(row) for row in self._rows("SELECT * FROM node_series")}

    def of_series(self, key: str) -> SeriesNote:
        """The note on one series; an empty one if there is none."""
        rows = self._rows("SELECT * FROM node_series WHERE key = ?", key)
        return series_note(rows[0]) if rows else SeriesNote(key)

    def note(self, note: SeriesNote) -> None:
        """Note what became of a series; who sent it stays as it was noted."""
        with self._store.transaction() as database:
            database.execute(
                "INSERT INTO node_series (key, signature, digest, outcome, rules, reason, noted) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                "signature = excluded.signature, digest = excluded.digest, "
                "outcome = excluded.outcome, rules = excluded.rules, reason = excluded.reason, "
                "noted = excluded.noted",
                (note.key, note.signature, note.digest, note.outcome, note.rules, note.reason,
                 self._clock()),
            )  # fmt: skip

    def removed(self, key: str) -> None:
        """Note that the images of a series have left the spool: what comes later comes alone."""
        with self._store.transaction() as database:
            database.execute(
                "UPDATE node_series SET reason = ? WHERE key = ? AND outcome = 'submitted'",
                (REMOVED, key),
            )

    def jobs(self, key: str) -> list[SubmittedJob]:
        """The jobs of a series in the order of their versions."""
        rows = self._rows("SELECT * FROM node_jobs WHERE series = ? ORDER BY version, job", key)
        return [SubmittedJob(**row) for row in rows]

    def job(self, job: str) -> SubmittedJob | None:
        """One job; None if the node has not submitted it."""
        rows = self._rows("SELECT * FROM node_jobs WHERE job = ?", job)
        return SubmittedJob(**rows[0]) if rows else None

    def submitted(self, job: str | None) -> list[SubmittedJob]:
        """One job, or all, of those that the node has submitted."""
        rows = self._rows("SELECT * FROM node_jobs WHERE ? IS NULL OR job = ?", job, job)
        return [SubmittedJob(**row) for row in rows]

    def submitting(self, job: SubmittedJob) -> Callable[[sqlite3.Connection], None]:
        """What a transaction has to do besides, when it adds a job."""

        def write(database: sqlite3.Connection) -> None:
            database.execute(
                "INSERT INTO node_jobs VALUES (?, ?, ?, ?, ?, ?)",
                (job.job, job.series, job.digest, job.version, job.plan, job.submitted),
            )

        return write

    def again(self, job: SubmittedJob) -> None:
        """Forget a job that has ended without a result, so that its series makes it once more."""
        with self._store.transaction() as database:
            marks = ", ".join("?" * len(FINISHED))
            gone = database.execute(
                f"DELETE FROM jobs WHERE id = ? AND state IN ({marks}) AND state != 'done'",
                (job.job, *FINISHED),
            ).rowcount
            if gone:
                database.execute("DELETE FROM deliveries WHERE job = ?", (job.job,))
                database.execute("DELETE FROM node_jobs WHERE job = ?", (job.job,))
                database.execute("UPDATE node_jobs SET plan = '' WHERE series = ?", (job.series,))
                database.execute("UPDATE node_series SET outcome = '' WHERE key = ?", (job.series,))

    def forget(self, keep: Iterable[str], age: float) -> None:
        """Remove notes on series that are no longer in the spool and were noted long ago.

        Args:
            keep: keys of the series that are in the spool.
            age: in seconds, of notes that are kept all the same.
        """
        before, there = self._clock() - age, set(keep)
        old = self._rows("SELECT key FROM node_series WHERE noted < ?", before)
        with self._store.transaction() as database:
            for key in (row["key"] for row in old if row["key"] not in there):
                database.execute("DELETE FROM node_series WHERE key = ?", (key,))
                database.execute("DELETE FROM node_jobs WHERE series = ?", (key,))

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._store.transaction() as database:
            return database.execute(query, values).fetchall()


def series_note(row: Mapping[str, Any]) -> SeriesNote:
    """A note from its row in the database."""
    return SeriesNote(**{name: row[name] for name in SeriesNote.__dataclass_fields__})
