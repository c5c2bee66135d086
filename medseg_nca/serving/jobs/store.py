"""Jobs that survive the server: a SQLite database, and a folder for each job.

Order of writing, so that a kill at any moment loses and doubles nothing: the folder with the input
is complete before the job is in the database, and only then does the client get its id. A worker
writes into a folder of its attempt, which becomes ``output`` by one rename before the database says
"done". When the server starts again, a job whose ``output`` is there is done; any other job at work
goes back to its place in the queue, once.

A kill of the process undoes nothing that was written. A loss of power does not undo that a job was
accepted, cancelled or failed, nor a result that is whole. Left to the operating system, which
writes them within seconds, are the files of an input, that a job was begun and that its ``output``
was taken over: where that is lost, the job fails, is begun anew, or its ``output`` is found again.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medseg_nca.errors import ConfigError
from medseg_nca.serving.jobs.dead_letters import DeadLetters
from medseg_nca.serving.jobs.disk import LOCK, only_one, size_of, to_disk
from medseg_nca.serving.jobs.forgetting import Forgetting
from medseg_nca.serving.jobs.notices import NOTICE, Notices, noticed
from medseg_nca.serving.jobs.records import (
    FINISHED,
    MOST_ATTEMPTS,
    Failure,
    JobOptions,
    JobRecord,
    State,
    record_of,
    stopped,
)
from medseg_nca.serving.jobs.schema import prepare

# Of a job that has ended: the text may name a patient, for example select=PatientID=...
_FORGET = "options = json_set(options, '$.select', '')"
INPUT, OUTPUT, RESULT = "input", "output", "result.json"


class JobStore:
    """All jobs of one server; may be used from several threads.

    Args:
        state: folder of the server; made where it is missing. One server at a time uses it.

    Raises:
        ConfigError: if another server uses the folder, or it cannot be written.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self.jobs, self.incoming = state / "jobs", state / "incoming"
        try:
            for folder in (self.jobs, self.incoming):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            state.chmod(0o700)
            self._guard = only_one(state / LOCK)
        except OSError as error:
            raise ConfigError(
                f"--state {state}: cannot be written ({error.strerror}).",
                hint="Name a folder of your own.",
            ) from error
        self.notices: Notices | None = None  # without it no job has one
        self.senders: tuple[str, ...] = ()  # destinations to which results are being sent
        self.dead_letters = DeadLetters(state / "dead-letter")
        self._lock = threading.RLock()
        self._database = sqlite3.connect(
            state / "jobs.sqlite", check_same_thread=False, isolation_level=None
        )
        self._database.row_factory = sqlite3.Row
        with self._lock:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute("PRAGMA secure_delete=ON")  # what is forgotten is overwritten
            with self.transaction() as database:
                prepare(database)
            self._forgetting = Forgetting(self._database)

    def close(self) -> None:
        """Let another server use the folder."""
        with self._lock:
            self._database.close()
        os.close(self._guard)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All or nothing; other threads wait.

        Args:
            durable: wait until it is on the disk, so that not even a loss of power undoes it. What
                is left to the operating system outlives the process all the same.
        """
        with self._lock:
            if not durable:
                self._database.execute("PRAGMA synchronous=NORMAL")
            try:
                with self._all_or_nothing():
                    yield self._database
            finally:
                if not durable:
                    self._database.execute("PRAGMA synchronous=FULL")

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            # A full disk refuses the COMMIT too, and may have rolled back by itself.
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def folder(self, job_id: str) -> Path:
        """Of a job; the id comes from the database, never from a client as it is."""
        return self.jobs / job_id

    def add(
        self, job_id: str, received: Path, options: JobOptions, *, owner: str, model: str,
        series: str = "", most: int | None = None,
        also: Callable[[sqlite3.Connection], None] | None = None,
    ) -> JobRecord | None:  # fmt: skip
        """Take a folder with an input in, and put its job at the end of the queue.

        Args:
            job_id: a new one.
            received: a complete folder on the same disk; it is moved.
            options: how it is to be predicted.
            owner: name of the user.
            model: served name.
            series: for the audit log.
            most: jobs that may wait; None if the queue is full then.
            also: what the transaction writes besides. The input is on the disk before it.
        """
        with self._lock:
            if most is not None and self.count("queued") >= most:
                return None
            folder = self.folder(job_id)
            if self.get(job_id) is None:  # a derived id may come once more
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            try:
                os.replace(received, folder / INPUT)
                if also is not None:
                    to_disk(folder, self.jobs)
                with self.transaction() as database:
                    database.execute(
                        "INSERT INTO jobs (id, owner, model, state, options, created, bytes, "
                        "series) VALUES (?, ?, ?, 'queued', ?, ?, ?, ?)",
                        (job_id, owner, model, json.dumps(options.to_tree()), time.time(),
                         size_of(folder), series),
                    )  # fmt: skip
                    if also is not None:
                        also(database)
            except BaseException:  # a full disk would become fuller with each job that it refuses
                shutil.rmtree(folder, ignore_errors=True)
                raise
            self._forgetting.note(job_id, options)
            return self.get(job_id)

    def get(self, job_id: str) -> JobRecord | None:
        """One job; None if there is none of that id."""
        found = self._select("WHERE id = ?", (job_id,))
        return found[0] if found else None

    def newest(self, owner: str | None = None, most: int = 100) -> Sequence[JobRecord]:
        """The newest jobs first, of one user or of all."""
        if owner is None:
            return self._select("ORDER BY number DESC LIMIT ?", (most,))
        return self._select("WHERE owner = ? ORDER BY number DESC LIMIT ?", (owner, most))

    def count(self, state: State) -> int:
        """How many jobs are in a state."""
        with self._lock:
            row = self._database.execute("SELECT COUNT(*) FROM jobs WHERE state = ?", (state,))
            return int(row.fetchone()[0])

    def position(self, job: JobRecord) -> int:
        """How many jobs wait before this one, and one more; 0 if it does not wait."""
        if job.state != "queued":
            return 0
        with self._lock:
            row = self._database.execute(
                "SELECT COUNT(*) FROM jobs WHERE state = 'queued' AND number <= ?", (job.number,)
            )
            return int(row.fetchone()[0])

    def claim(self) -> JobRecord | None:
        """The job that waits longest, which is at work from now on; None if none waits."""
        with self.transaction(durable=False) as database:
            row = database.execute(
                "SELECT id FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            database.execute(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, started = ? "
                "WHERE id = ?",
                (time.time(), row["id"]),
            )
            return self.get(row["id"])

    def attempt_folder(self, job: JobRecord) -> Path:
        """Where a worker writes what it makes of a job in this attempt."""
        return self.folder(job.id) / f"attempt-{job.attempts}"

    def finish(self, job: JobRecord) -> bool:
        """Take over the results of an attempt; False if the job was no longer at work.

        It may be called again where it raised.
        """
        folder = self.folder(job.id)
        with self._lock:
            if not (folder / OUTPUT).is_dir():
                os.replace(self.attempt_folder(job), folder / OUTPUT)
                to_disk(folder, folder.parent)
            return self._finish_from(folder, job.id)

    def fail(self, job_id: str, failure: Failure, state: State = "failed") -> bool:
        """End a job that waits or is at work; False if it had ended before.

        Its notice is whole before the database says that the job failed. After a kill between them
        the job is tried again, and may make another notice; none of them was delivered before.

        Raises:
            OSError: if there is no room for the notice; call it again.
        """
        job, result = self.get(job_id), {}
        if state == "failed" and job is not None and not job.is_finished:
            result = noticed(self.notices, job, failure, self.folder(job_id))
        with self.transaction() as database:
            done = database.execute(
                f"UPDATE jobs SET state = ?, failure = ?, finished = ?, result = ?, {_FORGET} "
                "WHERE id = ? AND state IN ('queued', 'running')",
                (state, json.dumps(failure.to_tree()), time.time(), json.dumps(result), job_id),
            )
        self._forget_input(job_id, NOTICE if result.get("notice") else None)
        return done.rowcount > 0

    def cancel_queued(self, job_id: str, failure: Failure) -> bool:
        """End a job that waits; False if it does not wait."""
        with self.transaction() as database:
            done = database.execute(
                f"UPDATE jobs SET state = 'cancelled', failure = ?, finished = ?, {_FORGET} "
                "WHERE id = ? AND state = 'queued'",
                (json.dumps(failure.to_tree()), time.time(), job_id),
            )
        if done.rowcount:
            self._forget_input(job_id, None)
        return done.rowcount > 0

    def leave(self, job_id: str, failure: Failure) -> None:
        """Remember that a job at work is not wanted, should the server be killed before it ends."""
        with self.transaction() as database:
            database.execute(
                "UPDATE jobs SET unwanted = ? WHERE id = ? AND state IN ('queued', 'running')",
                (json.dumps(failure.to_tree()), job_id),
            )

    def put_back(
        self, job: JobRecord, *, counts: bool = True, most: int = MOST_ATTEMPTS
    ) -> JobRecord | None:
        """Return a job to its place, behind all others after two attempts, until it fails.

        Args:
            job: that was at work.
            counts: whether the attempt counts.
            most: how many attempts are enough.
        """
        if counts and job.attempts >= most:
            self.fail(job.id, stopped(job.attempts))
            return self.get(job.id)
        with self.transaction() as database:
            database.execute(
                "UPDATE jobs SET state = 'queued', attempts = attempts - ?, started = NULL, "
                "number = CASE WHEN attempts < ? THEN number "
                "ELSE (SELECT MAX(number) + 1 FROM jobs) END WHERE id = ? AND state = 'running'",
                (0 if counts else 1, MOST_ATTEMPTS, job.id),
            )
        shutil.rmtree(self.attempt_folder(job), ignore_errors=True)
        return self.get(job.id)

    def recover(self) -> list[JobRecord]:
        """Put in order what a server that was killed left; call it once, before any work.

        Returns:
            The jobs that were at work, as they are now.
        """
        for left in self.incoming.iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        touched = self._end_unwanted()
        for job in self._select("WHERE state IN ('queued', 'running')", ()):
            output = self.folder(job.id) / OUTPUT
            if job.state == "queued" and not output.is_dir():
                continue
            try:
                self._finish_from(self.folder(job.id), job.id)
            except (OSError, ValueError):  # not there, or not whole after power was lost
                shutil.rmtree(output, ignore_errors=True)
                self.put_back(job, most=job.options.attempts)
            touched.append(job.id)
        known = {job.id for job in self._select("", ())}
        for folder in self.jobs.iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)
        self.dead_letters.keep(known)
        return [job for job in map(self.get, touched) if job is not None]

    def _end_unwanted(self) -> list[str]:
        with self._lock:
            rows = self._database.execute(
                "SELECT id, unwanted FROM jobs "
                "WHERE state IN ('queued', 'running') AND unwanted IS NOT NULL"
            ).fetchall()
        for row in rows:
            failure = Failure(**json.loads(row["unwanted"]))
            self.fail(row["id"], failure, "cancelled" if failure.status == 409 else "failed")
        return [row["id"] for row in rows]

    def sweep(self, age: float, most_bytes: int, delivery: float = 86400.0) -> int:
        """Remove what is too old, or the oldest of too many; not what is still to be delivered.

        The age of a job with a delivery that was given up counts from then: its files are all that
        a person can send again. A held result goes only when its time is over: nobody has it yet.

        Args:
            age: in seconds, of a job that has ended.
            most_bytes: of all such jobs.
            delivery: seconds after which a delivery is given up. One that has waited for twice as
                long goes too, unless its destination is among ``senders``.
        """
        marks, known = (", ".join("?" * len(some)) for some in (FINISHED, self.senders))
        kept = (
            "id NOT IN (SELECT job FROM deliveries WHERE (state = 'waiting' AND (asked > ? "
            f"OR destination IN ({known}))) OR (state = 'failed' AND finished > ?))"
        )
        where = f"WHERE state IN ({marks}) AND {kept} ORDER BY finished DESC"
        before, total, removed = time.time() - age, 0, 0
        long_ago = time.time() - 2 * delivery
        finished = self._select(where, (*FINISHED, long_ago, *self.senders, before))
        for job in finished:
            total += job.bytes
            if (job.finished or 0.0) < before or (total > most_bytes and not job.is_held):
                with suppress(sqlite3.OperationalError):  # a full disk: the row stays, files go
                    self.remove(job.id)
                    removed += 1
        with self._lock:
            self._forgetting.empty()
        return removed

    def remove(self, job_id: str) -> None:
        """Remove a finished job: its rows, and its files even where those cannot be removed."""
        try:
            with self.transaction() as database:
                database.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
                database.execute("DELETE FROM deliveries WHERE job = ?", (job_id,))
        finally:
            self.dead_letters.remove(job_id)
            shutil.rmtree(self.folder(job_id), ignore_errors=True)

    def _finish_from(self, folder: Path, job_id: str) -> bool:
        result = json.loads((folder / OUTPUT / RESULT).read_text(encoding="utf-8"))
        if not isinstance(result, dict):
            raise ValueError(f"{RESULT} is no object")
        size = size_of(folder / OUTPUT)
        with self.transaction(durable=False) as database:
            done = database.execute(
                f"UPDATE jobs SET state = 'done', result = ?, finished = ?, bytes = ?, {_FORGET} "
                "WHERE id = ? AND state IN ('queued', 'running')",
                (json.dumps(result), time.time(), size, job_id),
            )
        self._forget_input(job_id, OUTPUT)
        return done.rowcount > 0

    def _forget_input(self, job_id: str, kept: str | None) -> None:
        """Images of patients are not kept longer than they are needed."""
        for path in self.folder(job_id).glob("*"):
            if path.name != kept:
                shutil.rmtree(path, ignore_errors=True)
        with self._lock:
            self._forgetting.end(job_id)

    def _select(self, where: str, values: tuple[Any, ...]) -> list[JobRecord]:
        with self._lock:
            rows = self._database.execute(f"SELECT * FROM jobs {where}", values).fetchall()
        return [record_of(row) for row in rows]
