"""Which results are to be stored in the PACS, and how far that is; it survives the server.

A delivery is derived from the jobs in the database, not noted when a job ends, so that a kill
between the two loses none. What is sent are the files of the job: a second time the same objects.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from medseg_nca.serving.jobs.store import JobStore

DeliveryState = Literal["waiting", "stored", "failed"]


@dataclass(frozen=True)
class Delivery:
    """One of them.

    Attributes:
        job: id of the job whose results are stored.
        state: where it stands.
        asked: when it was asked for, seconds since 1970, as the next two.
        due: when it is tried next.
        finished: when it came to its end.
        attempts: how often it was begun.
        reason: why the last try failed; None if it did not.
    """

    job: str
    state: DeliveryState
    asked: float
    due: float
    finished: float | None = None
    attempts: int = 0
    reason: str | None = None


class Deliveries:
    """All deliveries of a server; may be used from several threads.

    Args:
        store: of the jobs, in whose database they are kept.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def get(self, job_id: str) -> Delivery | None:
        """That of a job; None if none was asked for, or it has not ended yet."""
        rows = self._rows("SELECT * FROM deliveries WHERE job = ?", job_id)
        return _delivery(rows[0]) if rows else None

    def ask(self, job_id: str) -> None:
        """Store the results of a job from the beginning, whatever became of an earlier delivery."""
        now = time.time()
        with self._store.transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO deliveries (job, state, asked, due) "
                "VALUES (?, 'waiting', ?, ?)",
                (job_id, now, now),
            )

    def next(self) -> Delivery | None:
        """The one that is due for longest; None if none is."""
        now = time.time()
        with self._store.transaction() as database:
            database.execute("DELETE FROM deliveries WHERE job NOT IN (SELECT id FROM jobs)")
            database.execute(
                "INSERT INTO deliveries (job, state, asked, due) "
                "SELECT id, 'waiting', ?, ? FROM jobs WHERE state = 'done' "
                "AND json_extract(options, '$.store') = 1 "
                "AND id NOT IN (SELECT job FROM deliveries)",
                (now, now),
            )
            row = database.execute(
                "SELECT * FROM deliveries WHERE state = 'waiting' AND due <= ? "
                "ORDER BY due LIMIT 1",
                (now,),
            ).fetchone()
            return None if row is None else _delivery(row)

    def begin(self, delivery: Delivery, seconds: float) -> None:
        """Note that it is being sent now, and tried again later whatever becomes of it.

        It is noted before anything is sent, so that a fault, a kill or a full disk afterwards does
        not make the server send the same thing every second.
        """
        due = time.time() + seconds
        self._update(delivery, "attempts = attempts + 1, due = ?", due)

    def end(self, delivery: Delivery, state: DeliveryState, reason: str | None = None) -> None:
        """Note that it came to its end."""
        self._update(delivery, "state = ?, finished = ?, reason = ?", state, time.time(), reason)

    def put_off(self, delivery: Delivery, seconds: float, reason: str) -> None:
        """Note that it failed, and after how many seconds it is tried again."""
        self._update(delivery, "due = ?, reason = ?", time.time() + seconds, reason)

    def _update(self, delivery: Delivery, change: str, *values: Any) -> None:
        """Change it, unless it was asked for anew meanwhile."""
        with self._store.transaction() as database:
            database.execute(
                f"UPDATE deliveries SET {change} WHERE job = ? AND asked = ?",
                (*values, delivery.job, delivery.asked),
            )

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._store.transaction() as database:
            return database.execute(query, values).fetchall()


def _delivery(row: Mapping[str, Any]) -> Delivery:
    return Delivery(**{name: row[name] for name in Delivery.__dataclass_fields__})
