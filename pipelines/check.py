"""Validate every case of a data set before anyone trains on it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os.path import realpath
from pathlib import Path

import numpy as np

from medseg_nca.config import LabelTable
from medseg_nca.datasets.base import DataSet
from medseg_nca.datasets.find import open_dataset
from medseg_nca.datasets.rules import (
    BrokenRule,
    channels_problem,
    doubtful_labels,
    ignored_folders,
    labels_problem,
    other_channels,
    thin_labels,
    usual,
    usual_channels,
)
from medseg_nca.datasets.splits import SIDES, patient_key
from medseg_nca.io.formats import find_images, in_short
from medseg_nca.job import Job
from medseg_nca.pipelines.check_case import check_case
from medseg_nca.pipelines.check_report import CaseRow, CheckReport, DataFinding, Level
from medseg_nca.transforms.grid import resampling_fault

# Layouts that pair files by their names: a file that is left over has no partner.
PAIRED_BY_NAME = {"folders", "nnunet"}
FEW_PATIENTS = 3  # one patient to train, one to validate, one held out
ODD_SPACING = 4.0  # times the median: more often a wrong unit than a wish


def run(
    data: Path,
    format: str = "auto",
    *,
    labels: LabelTable | None = None,
    workers: int | None = None,
    job: Job | None = None,
) -> CheckReport:
    """Check a data set.

    Args:
        data: its folder.
        format: its layout, or "auto".
        labels: a label table that replaces the data set's own.
        workers: threads; None or 0 takes one a core.
        job: told how far it is, under the phase "checking".

    Returns:
        A report with everything that was found, sorted by case.

    Raises:
        DataError: only if the data set cannot be opened at all.
        Interrupted: if the job was cancelled.
    """
    dataset = open_dataset(data, format, check_files=False)
    if labels is not None:
        dataset = replace(dataset, labels=labels)
    rows, findings = _check_cases(dataset, workers or os.cpu_count() or 1, job or Job())
    findings += _images(dataset, rows)
    findings += _leftovers(dataset)
    findings += _duplicates(rows)
    findings += _patients(dataset)
    findings += _whole(dataset, rows)
    return CheckReport(dataset, tuple(rows), tuple(findings))


def _check_cases(
    dataset: DataSet, workers: int, job: Job
) -> tuple[list[CaseRow], list[DataFinding]]:
    """Threads suffice: unpacking, hashing and counting let go of Python's lock."""
    rows: list[CaseRow] = []
    findings: list[DataFinding] = []
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running = [pool.submit(check_case, case, dataset) for case in dataset.cases]
        try:
            for future in running:
                row, found = future.result()
                rows.append(row)
                findings += found
                job.report("checking", len(rows), len(running), unit="cases")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return rows, findings


def _images(dataset: DataSet, rows: Sequence[CaseRow]) -> Iterator[DataFinding]:
    """Images with other axes or channels than most, which decide what the others must have."""
    read = [(row, row.shape, row.channels) for row in rows if row.shape and row.channels]
    dims = usual([len(shape) for _, shape, _ in read], dataset.dims)
    alike = [count for _, shape, count in read if len(shape) == dims]
    channels = usual_channels(dataset, alike, dims)
    if problem := channels_problem(channels, dims):
        yield _finding("error", problem)
    if problem := other_channels(dataset, channels):
        yield _finding("warning", problem)
    files = {case.id: case.images[0] for case in dataset.cases}
    for row, shape, count in read:
        if len(shape) != dims:
            text = f"{files[row.id]}: is {len(shape)}D, the data set is {dims}D."
            yield DataFinding("error", "wrong_dims", text, row.id)
        elif count != len(channels):
            what = "4D, with" if dims == 3 and count > 1 else "with"
            text = f"{files[row.id]}: is {what} {count} channel(s), where {len(channels)} "
            text += f"({', '.join(channels)}) are expected."
            yield DataFinding("error", "wrong_channels", text, row.id)


def _finding(level: Level, problem: BrokenRule) -> DataFinding:
    return DataFinding(level, problem.code, f"{problem.message} {problem.hint}")


def _leftovers(dataset: DataSet) -> Iterator[DataFinding]:
    """Image files that lie beside those of the cases, or below, and belong to none."""
    yield from (_finding("warning", problem) for problem in ignored_folders(dataset))
    used = {realpath(f) for case in dataset.cases for f in (*case.images, case.label) if f}
    images = {file.parent for case in dataset.cases for file in case.images}
    labels = {case.label.parent for case in dataset.cases if case.label}
    for folder in sorted(images | labels):
        if not folder.is_dir():
            continue
        left = [file for file in find_images(folder) if realpath(file) not in used]
        if not left:
            continue
        shown = in_short(file.name for file in left)
        if dataset.format in PAIRED_BY_NAME and folder in labels - images:
            text = f"{folder}: {len(left)} label map(s) have no image of the same name: {shown}."
            yield DataFinding("error", "label_without_image", text)
        else:
            text = f"{folder}: {len(left)} file(s) belong to no case: {shown}."
            yield DataFinding("warning", "file_not_used", text)


def _duplicates(rows: Sequence[CaseRow]) -> Iterator[DataFinding]:
    """Cases with the very same content; on two sides of a split they make results a lie."""
    for group in _groups(rows, [row.image_digest for row in rows]):
        ids = in_short(row.id for row in group)
        sides = {row.split for row in group if row.split}
        if len(sides) > 1:
            text = (
                f"The images of {ids} are the same, and lie on the sides {in_short(sorted(sides))}."
            )
            yield DataFinding("error", "duplicate_across_split", text)
        else:
            text = f"The images of {ids} are the same; keep one, or give them one patient."
            yield DataFinding("warning", "duplicate_image", text)
    for group in _groups(rows, [row.label_digest for row in rows]):
        if len({row.image_digest for row in group}) > 1:
            text = f"The label maps of {in_short(row.id for row in group)} are the same."
            yield DataFinding("warning", "duplicate_label", f"{text} Was one copied by mistake?")


def _groups(rows: Sequence[CaseRow], keys: Sequence[str | None]) -> Iterator[list[CaseRow]]:
    """Rows that share a key."""
    groups = defaultdict(list)
    for row, key in zip(rows, keys, strict=True):
        if key is not None:
            groups[key].append(row)
    return (group for group in groups.values() if len(group) > 1)


def _patients(dataset: DataSet) -> Iterator[DataFinding]:
    """Patients whom the data set's own split puts on two sides."""
    sides = defaultdict(set)
    cases = defaultdict(list)
    for case in dataset.cases:
        if case.patient is not None and case.split is not None:
            sides[patient_key(case)].add(case.split)
            cases[patient_key(case)].append(case.id)
    for key, found in sides.items():
        if len(found) > 1:
            text = f"The cases {in_short(cases[key])} of one patient lie on the sides"
            yield DataFinding("error", "patient_across_split", f"{text} {in_short(sorted(found))}.")


def _whole(dataset: DataSet, rows: Sequence[CaseRow]) -> Iterator[DataFinding]:
    """What shows only when all cases are looked at together."""
    if not dataset.labelled:
        yield DataFinding(
            "error", "no_labels", "No case has a label map: there is nothing to learn."
        )
        return
    patients = len({patient_key(case) for case in dataset.labelled})
    if patients < FEW_PATIENTS:
        text = f"There are {patients} labelled patient(s); {FEW_PATIENTS} are needed to train,"
        level: Level = "error" if patients == 1 else "warning"
        yield DataFinding(level, "few_patients", f"{text} validate and test.")
    values = {value for row in rows for value in row.voxels or {}}
    problem = labels_problem(dataset.labels, values)
    if values and problem is not None:
        yield _finding("error", problem)
    if doubt := doubtful_labels(dataset.labels, values):
        yield _finding("warning", doubt)
    yield from _unused_labels(dataset, rows)
    yield from _thin_labels(dataset, rows)
    yield from _odd_spacings(rows)


def _unused_labels(dataset: DataSet, rows: Iterable[CaseRow]) -> Iterator[DataFinding]:
    seen = {value for row in rows for value in row.voxels or {}}
    for label in dataset.labels.labels if dataset.labels else ():
        if not seen & set(label.values):
            text = (
                f"The label {label.name!r} ({in_short(map(str, label.values))}) is in no label map."
            )
            yield DataFinding("warning", "unused_label", text)


def _thin_labels(dataset: DataSet, rows: Sequence[CaseRow]) -> Iterator[DataFinding]:
    """Labels that the data set's own split, where it has one, leaves without cases."""
    sides = {side: [row.id for row in rows if row.split == side and row.voxels] for side in SIDES}
    if not sides["train"] or not any(sides[side] for side in SIDES if side != "train"):
        return
    seen = {value for row in rows for value in row.voxels or {}} - {0}
    meant = {str(value): {value} for value in sorted(seen)}
    if dataset.labels is not None:
        labels = {label.name: set(label.values) for label in dataset.labels.labels}
        meant = {name: values for name, values in labels.items() if values & seen}
    present = {
        row.id: [name for name, values in meant.items() if values & set(row.voxels or {})]
        for row in rows
    }
    for problem in thin_labels(list(meant), present, sides):
        yield _finding("warning", problem)


def _odd_spacings(rows: Sequence[CaseRow]) -> Iterator[DataFinding]:
    known = [row for row in rows if row.spacing is not None]
    if len({len(row.spacing or ()) for row in known}) != 1:
        return
    median = np.median([row.spacing for row in known], axis=0)
    for row in known:
        fault = resampling_fault(row.shape or (), row.spacing or (), median.tolist())
        if fault is not None:
            yield DataFinding("error", "absurd_spacing", f"{row.id}: {fault}.", row.id)
            continue
        ratio = np.asarray(row.spacing) / median
        if ratio.max() > ODD_SPACING or ratio.min() < 1 / ODD_SPACING:
            usual = " x ".join(f"{step:.3g}" for step in median)
            own = " x ".join(f"{step:.3g}" for step in row.spacing or ())
            text = f"{row.id}: the spacing {own} mm is far from the usual {usual} mm."
            yield DataFinding("warning", "odd_spacing", f"{text} Is the unit right?", row.id)
