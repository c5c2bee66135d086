"""Write the files of an evaluation, in the form that all tasks have in common."""

from __future__ import annotations

import csv
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medseg_nca.inference.engine_choice import engine_settings
from medseg_nca.io.atomic import atomic_file, write_json
from medseg_nca.tasks.base import Better, TrainedModel
from medseg_nca.tracking.evaluation import METRICS
from medseg_nca.tracking.provenance import git_commit, package_versions

FORMAT_VERSION = 1
TABLE = "metrics.csv"
Tree = dict[str, Any]


def describe_results(
    model: TrainedModel,
    *,
    data: str,
    data_hash: str,
    split: str,
    cases: int,
    score: str,
    value: float | None,
    better: Better,
) -> Tree:
    """Return the entries of ``metrics.json`` that every task writes.

    A task adds its own settings to the entry "settings", which names the engine of the run.

    Args:
        model: the model that was evaluated.
        data: name of the data set; "" if there is none.
        data_hash: hash of the data set; "" if there is none.
        split: name of the side of the split, such as "test".
        cases: number of cases that were evaluated.
        score: name of the score, the metric by which models are judged.
        value: value of the score; None if no case has one.
        better: the direction in which the score is better.
    """
    spec = model.spec
    return {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": spec.task,
        "score": {"name": score, "value": value, "better": better},
        "model": {
            "name": spec.name,
            "architecture": spec.model.name,
            "parameters": model.parameters,
            "weights_sha256": spec.weights_sha256,
            "training_data": spec.training_data,
            "training_data_hash": spec.training_data_hash,
        },
        "data": {"name": data, "hash": data_hash},
        "split": {"name": split, "cases": cases},
        "device": str(model.device),
        "settings": engine_settings(model),
        "git_commit": git_commit(),
        "versions": {"python": platform.python_version(), **package_versions()},
    }


def write_results(tree: Tree, rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write ``metrics.csv``, and after it ``metrics.json``.

    Args:
        tree: content of ``metrics.json``.
        rows: rows of ``metrics.csv``; the keys of the first row are the columns.
        out: folder of the results.

    Raises:
        OutputError: if they cannot be written.
    """
    with (
        atomic_file(out / TABLE) as path,
        path.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, list(rows[0]) if rows else ["case"])
        writer.writeheader()
        writer.writerows(rows)
    write_json(out / METRICS, tree)
