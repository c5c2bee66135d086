"""Read and write the cases of a finished evaluation, so that a later one can use them again.

``metrics.json`` says from which files and settings each case was computed. ``metrics.csv`` has its
numbers with all digits, so that a summary over old and new cases is the summary that a single run
would give.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg_nca.cases.evaluate_case import EvaluationRecord
from medseg_nca.cases.quality_notes import verdict_counts
from medseg_nca.io.atomic import atomic_file, write_json
from medseg_nca.metrics.definitions import MERGED, METRICS, Values
from medseg_nca.metrics.summary import CaseResult, table_rows

TABLE, LIST = "metrics.csv", "metrics.json"
_DIGITS = 6  # decimals of the numbers in metrics.json


def add_records(tree: dict[str, Any], measured: Mapping[str, EvaluationRecord]) -> None:
    """Add to each case in the tree of ``metrics.json`` what it was computed from.

    The estimate that the model made of its own answer comes with it, and how many cases have which
    verdict.
    """
    tree["verdicts"] = verdict_counts(record.estimate for record in measured.values())
    for entry in tree["cases"]:
        record = measured[entry["id"]].to_tree()
        entry["training"], entry["estimate"] = record["training"], record["estimate"]
        entry["record"] = {"key": record["key"], "prediction": record["prediction"]}


def write_metrics(tree: Mapping[str, Any], results: Sequence[CaseResult], out: Path) -> None:
    """Write ``metrics.csv``, and after it ``metrics.json``.

    Raises:
        OutputError: if they cannot be written.
    """
    with (
        atomic_file(out / TABLE) as path,
        path.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, ["case", "label", *METRICS, "seconds"])
        writer.writeheader()
        writer.writerows(table_rows(results))
    write_json(out / LIST, tree)


def read_metrics(out: Path) -> dict[str, EvaluationRecord]:
    """Return the records of a finished evaluation by case id.

    A case is left out unless ``metrics.json`` and ``metrics.csv`` agree on it; if a file is missing
    or damaged, there are no records.
    """
    try:
        tree = json.loads((out / LIST).read_text(encoding="utf-8"))
        with (out / TABLE).open(newline="", encoding="utf-8") as stream:
            values = _by_case(csv.DictReader(stream))
        entries = [entry for entry in tree["cases"] if "record" in entry]
        return {
            entry["id"]: EvaluationRecord.from_tree(
                {
                    **entry["record"],
                    "values": values[entry["id"]],
                    "seconds": entry["seconds"],
                    "training": entry["training"],
                    "estimate": entry.get("estimate"),
                }
            )
            for entry in entries
            if _agree(entry, values.get(entry["id"]))
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _by_case(rows: csv.DictReader[str]) -> dict[str, dict[str, Values]]:
    found: dict[str, dict[str, Values]] = {}
    for row in rows:
        numbers = {name: float(row[name]) if row[name] else None for name in METRICS}
        found.setdefault(row["case"], {})[row["label"]] = numbers
    return found


def _agree(entry: Mapping[str, Any], values: Mapping[str, Values] | None) -> bool:
    """Return whether ``metrics.json`` and ``metrics.csv`` have the same numbers of a case."""
    if values is None:
        return False
    rounded = {
        label: {name: None if v is None else round(v, _DIGITS) for name, v in numbers.items()}
        for label, numbers in values.items()
    }
    return rounded == {**entry["labels"], MERGED: entry["merged"]}
