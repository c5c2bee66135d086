"""Tables of the database of jobs, and how those of an earlier version become these."""

from __future__ import annotations

import sqlite3

# The destination of jobs that say `store`: the DICOMweb server of the images.
PACS = "pacs"
_DELIVERIES = """CREATE TABLE IF NOT EXISTS deliveries (
    job TEXT NOT NULL,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    asked REAL NOT NULL,
    due REAL NOT NULL,
    finished REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, destination)
)"""
_TABLES = (
    """CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    model TEXT NOT NULL,
    state TEXT NOT NULL,
    options TEXT NOT NULL,
    created REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    started REAL,
    finished REAL,
    result TEXT NOT NULL DEFAULT '{}',
    failure TEXT,
    bytes INTEGER NOT NULL DEFAULT 0,
    series TEXT NOT NULL DEFAULT '',
    unwanted TEXT
)""",
    "CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number)",
    """CREATE TABLE IF NOT EXISTS tokens (digest TEXT PRIMARY KEY, user TEXT NOT NULL,
    stamp TEXT NOT NULL, expires REAL NOT NULL)""",
    _DELIVERIES,
)
# A job of before said whether it is stored in the PACS, which was the only destination.
_MANY_DESTINATIONS = (
    "ALTER TABLE deliveries RENAME TO deliveries_of_one",
    _DELIVERIES,
    "INSERT INTO deliveries "
    f"SELECT job, '{PACS}', state, reason, asked, due, finished, attempts FROM deliveries_of_one",
    "DROP TABLE deliveries_of_one",
    f"""UPDATE jobs SET options = json_remove(json_set(options, '$.destinations',
    CASE WHEN json_extract(options, '$.store') = 1 THEN json_array('{PACS}') ELSE json_array() END
    ), '$.store')""",
)


def prepare(database: sqlite3.Connection) -> None:
    """Make the tables that are missing, and bring those of an earlier version up to date.

    The caller has begun a transaction, so that a kill leaves the old tables or the new ones.
    """
    for statement in _TABLES:
        database.execute(statement)
    if "unwanted" not in _columns(database, "jobs"):
        database.execute("ALTER TABLE jobs ADD COLUMN unwanted TEXT")
    if "destination" not in _columns(database, "deliveries"):
        for statement in _MANY_DESTINATIONS:
            database.execute(statement)


def _columns(database: sqlite3.Connection, table: str) -> set[str]:
    return {row["name"] for row in database.execute(f"PRAGMA table_info({table})")}
