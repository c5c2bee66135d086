"""The history of a run: a CSV file of numbers by iteration, which survives a kill and a resume.

Observers get the same numbers during the training.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from medseg_nca.errors import OutputError
from medseg_nca.io.atomic import atomic_file

Row = dict[str, float]


class Observer(Protocol):
    """A receiver of the numbers of a training, for example a tracking store."""

    def on_log(self, iteration: int, values: Mapping[str, float], progress: float) -> None:
        """Receive numbers; called every ``log_every`` iterations and after every validation.

        Args:
            iteration: iterations done so far.
            values: numbers by name.
            progress: share of the training that is done, 0 to 1.
        """


class History:
    """Rows of numbers by iteration, in memory and in ``history.csv``.

    Args:
        path: path of the file, which is created with the first row.
        until: last iteration whose rows are kept, when a run goes on from there and writes the
            later rows again. None drops the whole file.
    """

    def __init__(self, path: Path, until: int | None = None) -> None:
        self.path = path
        self.rows: list[Row] = []
        if until is not None and path.exists():
            self.rows = [row for row in read_history(path) if row["iteration"] <= until]
            self._rewrite()

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row, and write it to disk at once."""
        new = set(row) - set(self._columns())
        self.rows.append(dict(row))
        if new or len(self.rows) == 1:
            self._rewrite()
        else:
            self._append(self.rows[-1])

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(key for row in self.rows for key in row))

    def _rewrite(self) -> None:
        with (
            atomic_file(self.path) as path,
            path.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.DictWriter(stream, self._columns())
            writer.writeheader()
            writer.writerows(self.rows)

    def _append(self, row: Row) -> None:
        try:
            with self.path.open("a", newline="", encoding="utf-8") as stream:
                csv.DictWriter(stream, self._columns()).writerow(row)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror}).") from error


def read_history(path: Path) -> list[Row]:
    """Read the rows of a ``history.csv``; a line cut short by a kill is left out.

    Whole numbers are read as integers, so that a row that is written again has the same bytes.
    """
    rows = []
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        for line in csv.DictReader(stream):
            try:
                rows.append({k: _number(v) for k, v in line.items() if k and v})
            except ValueError:
                continue
    return [row for row in rows if "iteration" in row]


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)
