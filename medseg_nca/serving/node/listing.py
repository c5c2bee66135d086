"""What a node has: its series, jobs and deliveries, looked at from another process."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from medseg_nca.errors import ConfigError
from medseg_nca.io.atomic import write_json
from medseg_nca.serving.jobs.records import record_of
from medseg_nca.serving.node.ledger import SeriesNote, series_note
from medseg_nca.serving.node.spool import Spool

DEAD_LETTERS, SERIES = "dead-letter", "series"
# Where the jobs are, for a node that runs within a server.
_PLACE = "node.json"


def note_state(spool: Path, state: Path) -> None:
    """Note in the spool where the jobs of its series are.

    Raises:
        ConfigError: if they are elsewhere: all series would be computed and sent once more.
    """
    try:
        known = state_of(spool)
    except ConfigError:  # there are none yet
        known = state
    if not known.samefile(state):
        raise ConfigError(
            f"--spool {spool}: the jobs of its series are in {known}, not in {state}.",
            hint=f"Start the node as before. Remove {spool / _PLACE} where this is a copy that was "
            "restored; where it is none, all series in it would be computed and sent once more.",
        )
    write_json(spool / _PLACE, {"state": str(state.absolute())})


def state_of(spool: Path) -> Path:
    """Folder with the database of the jobs of a spool.

    Raises:
        ConfigError: if no node has used this spool.
    """
    try:
        state = Path(json.loads((spool / _PLACE).read_text(encoding="utf-8"))["state"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--spool {spool}: is no spool of a node.",
            hint="Name the folder that `medseg-nca dicom-node` was started with.",
        ) from error
    if not (state / "jobs.sqlite").is_file():
        raise ConfigError(f"--spool {spool}: its jobs are not in {state} any more.")
    return state


def listing(spool: Path) -> dict[str, list[dict[str, Any]]]:
    """Series, jobs and deliveries, the newest last, and dead letters; nothing is changed.

    Raises:
        ConfigError: as :func:`state_of`.
    """
    state = state_of(spool)
    with _reading(state) as database:
        notes = {row["key"]: series_note(dict(row)) for row in _rows(database, "node_series")}
        lines = {row["job"]: row for row in _rows(database, "node_jobs")}
        deliveries = [dict(row) for row in _rows(database, "deliveries", "asked")
                      if row["job"] in lines]  # fmt: skip
        asked = {one["job"] for one in deliveries}
        jobs = [_job(row, lines[row["id"]], row["id"] in asked)
                for row in _rows(database, "jobs", "number") if row["id"] in lines]  # fmt: skip
    return {
        "series": _series(spool, notes),
        "jobs": jobs,
        "deliveries": deliveries,
        "dead_letters": _dead_letters(state),
    }


def gone(listed: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """The jobs without a result whose series has left the spool: it has to be sent again."""
    there = {series["key"] for series in listed["series"]}
    return [job["id"] for job in listed["jobs"]
            if job["state"] in ("failed", "cancelled") and job["series"] not in there]  # fmt: skip


def failed(listed: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """The jobs that can be tried again: without a result, or with a delivery that was given up."""
    jobs = [job["id"] for job in listed["jobs"] if job["state"] in ("failed", "cancelled")]
    given_up = [one["job"] for one in listed["deliveries"] if one["state"] == "failed"]
    return [*dict.fromkeys([*jobs, *given_up])]


def held(listed: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """The jobs whose rejected result waits for a person to deliver it."""
    return [job["id"] for job in listed["jobs"] if job["delivery"] == "held"]


@contextmanager
def _reading(state: Path) -> Iterator[sqlite3.Connection]:
    path = (state / "jobs.sqlite").absolute()
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)) as database:
        database.row_factory = sqlite3.Row
        yield database


def _rows(database: sqlite3.Connection, table: str, order: str = "rowid") -> list[sqlite3.Row]:
    return database.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()


def _job(row: sqlite3.Row, line: sqlite3.Row, asked: bool) -> dict[str, Any]:
    """A job; ``asked`` says whether its results are, or were, on their way."""
    failure = json.loads(row["failure"]) if row["failure"] else {}
    record = record_of(dict(row))
    return {
        "id": row["id"], "series": line["series"], "version": line["version"],
        "model": row["model"], "owner": row["owner"], "state": row["state"],
        "created": row["created"], "finished": row["finished"],
        "verdict": record.verdict, "delivery": "held" if record.is_held and not asked else "",
        "reason": failure.get("detail", ""), "hint": failure.get("hint") or "",
    }  # fmt: skip


def _series(spool: Path, notes: Mapping[str, SeriesNote]) -> list[dict[str, Any]]:
    folder = spool / SERIES
    if not folder.is_dir():
        return []
    found = []
    for series in sorted(Spool(folder).series(), key=lambda one: one.last):
        note = notes.get(series.key, SeriesNote(series.key))
        decided = note.outcome if note.signature == series.signature else ""
        found.append({
            "key": series.key, "series_uid": series.series_uid, "from": note.aet,
            "files": series.files, "bytes": series.bytes, "last": series.last,
            "state": decided or "waiting", "reason": note.reason if decided else "",
        })  # fmt: skip
    return found


def _dead_letters(state: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted((state / DEAD_LETTERS).glob("*/*/reason.json")):
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            tree = {}
        found.append({"job": path.parent.parent.name, "folder": str(path.parent), "reason": tree})
    return found
