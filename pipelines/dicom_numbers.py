"""Give the label maps of all cases the numbers of the data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg_nca.errors import OutputError
from medseg_nca.io.atomic import write_json
from medseg_nca.io.read import read_label
from medseg_nca.io.write import write_volume
from medseg_nca.job import Job
from medseg_nca.pipelines.dicom_case import CLUSTER, STATE
from medseg_nca.pipelines.dicom_labels import numbers_of, renumber
from medseg_nca.pipelines.dicom_report import DATASET, ImportReport, label_file
from medseg_nca.work.scheduler import counted, run_each

_NUMBERS = "numbers.json"


@dataclass(frozen=True)
class _Numbering:
    """A label map that gets the numbers of the data set."""

    own: Path
    target: Path
    numbers: Mapping[int, int]


def number_labels(
    report: ImportReport, workers: int, scheduler: str | None, job: Job
) -> ImportReport:
    """Write the final label maps; those whose numbers are as an earlier run wrote them stay."""
    if report.legend is None:
        return report
    out = report.out
    notes = out / STATE / _NUMBERS
    known = _read_numbers(notes)
    wanted: dict[str, Any] = {}
    items: list[_Numbering] = []
    for record, one in report.maps:
        if one.own is None:
            continue
        numbers = numbers_of(one.segments, report.legend)
        wanted[one.id] = [record.key, {str(own): number for own, number in numbers.items()}]
        target = out / label_file(one)
        if known.get(one.id) != wanted[one.id] or not target.is_file():
            items.append(_Numbering(out / one.own, target, numbers))
    if not items:
        return report
    # From here on the list of an earlier run no longer tells the truth.
    (out / DATASET).unlink(missing_ok=True)
    notes.unlink(missing_ok=True)
    running = run_each(
        _number, items, workers, scheduler=scheduler, folder=out / STATE / CLUSTER, job=job
    )
    failed = [o.error for o in counted(running, job, "labels", len(items)) if o.error]
    if failed:
        raise OutputError(f"{out}: label maps cannot be written: {failed[0]}")
    write_json(notes, wanted)
    return report


def _number(work: _Numbering, job: Job) -> None:
    own = read_label(work.own)
    array = renumber(own.array, work.numbers)
    write_volume(replace(own, array=array, header={}), work.target)


def _read_numbers(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}
