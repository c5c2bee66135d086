"""Which results are to be delivered where, and how far that is; it survives the server.

A delivery is a job and the name of a destination. It is derived from the jobs in the database, not
noted when a job ends, so that a kill between the two loses none. What is sent are the files of the
job, which nobody changes: a second time the same objects.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from medseg_nca.serving.jobs.schema import PACS
from medseg_nca.serving.jobs.store import JobStore

DeliveryState = Literal["waiting", "stored", "failed"]
# No pause is that long: what is due later was noted before the clock was set back, and is due now.
_FARTHEST = 3600.0
# Where an option or the estimate is missing, as in jobs of an older server, a job is not held.
_HELD = (
    "(COALESCE(json_extract(jobs.options, '$.hold_rejected'), 0) = 1 "
    "AND COALESCE(json_extract(jobs.result, '$.estimate.verdict'), '') = 'reject')"
)


@dataclass(frozen=True)
class Delivery:
    """One of them.

    Attributes:
        job: id of the job whose results are delivered.
        destination: name of where they go.
        state: where it stands.
        asked: when it was asked for, seconds since 1970, as the next two.
        due: when it is tried next.
        finished: when it came to its end.
        attempts: how often it was begun.
        reason: why the last try failed; None if it did not.
    """

    job: str
    destination: str
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
        self._news, self._count = threading.Condition(), 0

    def get(self, job_id: str, destination: str = PACS) -> Delivery | None:
        """One of a job; None if it was not asked for, or the job has not ended yet."""
        found = [one for one in self.of(job_id) if one.destination == destination]
        return found[0] if found else None

    def of(self, job_id: str) -> list[Delivery]:
        """All of a job, in the order of their destinations."""
        query = "SELECT * FROM deliveries WHERE job = ? ORDER BY destination"
        with self._store.transaction() as database:
            return [_delivery(row) for row in database.execute(query, (job_id,)).fetchall()]

    def waiting(self) -> int:
        """How many have not come to their end."""
        with self._store.transaction() as database:
            query = "SELECT COUNT(*) FROM deliveries WHERE state = 'waiting'"
            return int(database.execute(query).fetchone()[0])

    def stranded(self, known: Collection[str]) -> list[str]:
        """Destinations that results wait for, other than the known ones."""
        query = "SELECT DISTINCT destination FROM deliveries WHERE state = 'waiting'"
        with self._store.transaction() as database:
            found = [str(row["destination"]) for row in database.execute(query).fetchall()]
        return sorted(set(found) - set(known))

    def gauges(self) -> dict[str, tuple[str, float]]:
        """Figures as they are now, each with its help."""
        text = "Results that are still to be delivered."
        return {"waiting_deliveries": (text, float(self.waiting()))}

    def ask(self, job_id: str, destination: str = PACS) -> None:
        """Deliver the results of a job from the beginning, whatever became of it earlier."""
        now = time.time()
        with self._store.transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO deliveries (job, destination, state, asked, due) "
                "VALUES (?, ?, 'waiting', ?, ?)",
                (job_id, destination, now, now),
            )
        self._store.dead_letters.remove(job_id, destination)
        self.wake()

    def next(self, destination: str) -> Delivery | None:
        """The one to a destination that is due for longest; None if none is."""
        now = time.time()
        with self._store.transaction() as database:
            database.execute("DELETE FROM deliveries WHERE job NOT IN (SELECT id FROM jobs)")
            database.execute(
                "INSERT INTO deliveries (job, destination, state, asked, due) "
                "SELECT jobs.id, wanted.value, 'waiting', ?, ? "
                "FROM jobs, json_each(jobs.options, '$.destinations') AS wanted "
                "WHERE (jobs.state = 'done' OR (jobs.state = 'failed' "
                "AND json_extract(jobs.result, '$.notice.file') IS NOT NULL)) "
                f"AND NOT {_HELD} "
                "AND NOT EXISTS (SELECT 1 FROM deliveries "
                "WHERE job = jobs.id AND destination = wanted.value)",
                (now, now),
            )
            row = database.execute(
                "SELECT * FROM deliveries WHERE state = 'waiting' AND destination = ? "
                "AND (due <= ? OR due > ?) ORDER BY due LIMIT 1",
                (destination, now, now + _FARTHEST),
            ).fetchone()
            return None if row is None else _delivery(row)

    def pause(self, destination: str, longest: float) -> float:
        """Seconds until the next one to a destination is due; ``longest`` at most."""
        query = "SELECT MIN(due) FROM deliveries WHERE state = 'waiting' AND destination = ?"
        with self._store.transaction() as database:
            due = database.execute(query, (destination,)).fetchone()[0]
        return longest if due is None else min(max(due - time.time(), 0.0), longest)

    @property
    def news(self) -> int:
        """Counts the calls of :meth:`wake`."""
        with self._news:
            return self._count

    def wake(self) -> None:
        """Say that something may be due: a job has ended, or a destination has to stop."""
        with self._news:
            self._count += 1
            self._news.notify_all()

    def wait(self, seen: int, seconds: float) -> None:
        """Return when :meth:`wake` was called after ``seen`` was read, or after some seconds."""
        with self._news:
            self._news.wait_for(lambda: self._count != seen, seconds)

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
                f"UPDATE deliveries SET {change} WHERE job = ? AND destination = ? AND asked = ?",
                (*values, delivery.job, delivery.destination, delivery.asked),
            )


def _delivery(row: Mapping[str, Any]) -> Delivery:
    return Delivery(**{name: row[name] for name in Delivery.__dataclass_fields__})
