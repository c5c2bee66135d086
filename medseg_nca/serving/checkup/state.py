"""The folder of a server, its disk, and the clock."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import medseg_nca
from medseg_nca.findings import DoctorFinding
from medseg_nca.serving.checkup.files import examine_mode
from medseg_nca.serving.settings import ServeSettings

_GB = 1e9
# Bytes of an audit log that nobody rotates; half a million lines.
_LONG_LOG = 100e6
# Seconds that a file may be ahead of the clock.
_AHEAD = 60.0


@dataclass(frozen=True)
class Room:
    """What a folder needs of its disk, in bytes.

    Attributes:
        least: that have to be free, or nothing works.
        wanted: that have to be free or in use by what is kept already.
        limits: the setting that says how much may be kept, for the reader.
        short: what it means that less than ``least`` is free.
        advice: how to do with less than ``wanted``.
    """

    least: int
    wanted: int
    limits: str
    short: str
    advice: str


def examine_state(settings: ServeSettings) -> Iterator[DoctorFinding]:
    """Examine the folder of the server and its disk; nothing is created or changed."""
    limits = settings.limits
    pacs = limits.cached_bytes if settings.pacs is not None else 0
    room = Room(
        2 * limits.body_bytes, limits.kept_bytes + pacs + limits.body_bytes,
        f"--keep-gb {settings.keep_gb:g} may be kept",
        "not even one large request and its result would fit", "keep less with --keep-gb",
    )  # fmt: skip
    yield from examine_folder("state", settings.state, room)


def examine_folder(area: str, state: Path, room: Room) -> Iterator[DoctorFinding]:
    """Examine a folder of jobs and its disk; nothing is created or changed.

    Args:
        area: of the findings, and name of the flag.
        state: the folder.
        room: that it needs.
    """
    folder = next(parent for parent in (state, *state.parents) if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        advice = f"Name a folder of the server's own with --{area}, or chown it to its user."
        yield DoctorFinding(area, "folder", "problem", f"{folder} cannot be written", advice)
        return
    text = f"{state}, writable" if folder == state else f"{state} (made by the first start)"
    yield DoctorFinding(area, "folder", "ok", text)
    if folder == state:
        yield from examine_mode(area, "mode", state)
    used = 0
    if (state / "jobs.sqlite").is_file():
        finding, used = _database(area, state / "jobs.sqlite")
        yield finding
    yield _room(area, room, folder, used)
    yield from _audit(area, state / "audit.log")


def _database(area: str, path: Path) -> tuple[DoctorFinding, int]:
    """Examine the database of the jobs, and count the bytes of what is kept."""
    advice = "Stop the server and restore the folder from a back-up (docs/operation.md)."
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as database:
            verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            jobs, used = database.execute("SELECT COUNT(*), TOTAL(bytes) FROM jobs").fetchone()
    except sqlite3.Error as error:
        return DoctorFinding(area, "database", "problem", f"{path}: {error}", advice), 0
    if verdict != "ok":
        return DoctorFinding(area, "database", "problem", f"{path}: {verdict}", advice), 0
    text = f"{jobs} jobs, {used / _GB:.1f} GB of results"
    return DoctorFinding(area, "database", "ok", text), int(used)


def _room(area: str, room: Room, folder: Path, used: int) -> DoctorFinding:
    free = shutil.disk_usage(folder).free
    text = f"{free / _GB:.1f} GB free; {room.limits}"
    if free < room.least:
        advice = f"Free some space: {room.short}."
        return DoctorFinding(area, "disk", "problem", text, advice)
    if free + used < room.wanted:
        advice = f"Free some space, or {room.advice}."
        return DoctorFinding(area, "disk", "note", text, advice)
    return DoctorFinding(area, "disk", "ok", text)


def _audit(area: str, path: Path) -> Iterator[DoctorFinding]:
    size = path.stat().st_size if path.is_file() else 0
    if size > _LONG_LOG:
        advice = "Have logrotate move it; the server goes on in a new file (docs/operation.md)."
        yield DoctorFinding(area, "audit log", "note", f"{size / 1e6:.0f} MB", advice)


def examine_clock(state: Path) -> Iterator[DoctorFinding]:
    """Compare the clock with times it cannot be before, and ask whether it is kept right.

    Args:
        state: folder of the jobs.
    """
    now = time.time()
    marks = [state / name for name in ("audit.log", "jobs.sqlite")]
    marks.append(Path(medseg_nca.__file__))
    latest = max((mark for mark in marks if mark.exists()), key=lambda mark: mark.stat().st_mtime)
    ahead = latest.stat().st_mtime - now
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    advice = "Have the clock kept right, for example by systemd-timesyncd or chrony."
    if ahead > _AHEAD:
        text = f"{text}, but {latest} was written {ahead / 60:.0f} minutes later"
        yield DoctorFinding("clock", "time", "problem", text, advice)
    elif _synchronised() is False:
        yield DoctorFinding("clock", "time", "note", f"{text}, not synchronised", advice)
    else:
        yield DoctorFinding("clock", "time", "ok", text)


def _synchronised() -> bool | None:
    """Whether systemd says that a time server is followed; None where it says nothing."""
    program = shutil.which("timedatectl")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "show", "--property=NTPSynchronized", "--value"],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip())
