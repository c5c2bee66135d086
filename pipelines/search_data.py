"""The data of a search: divided once, prepared once, and without the test part."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from medseg_nca.config import RunSettings
from medseg_nca.datasets.splits import Split, write_split
from medseg_nca.errors import ConfigError, DataError
from medseg_nca.job import Job
from medseg_nca.tasks.base import Task

SPLITS, WHOLE = "splits", "split.json"


@dataclass(frozen=True)
class SearchData:
    """What the trainings of a search are given.

    Attributes:
        data: the data set; None if the task needs none.
        splits: a file with the split of each fold, without a test part; empty if the task divides
            no data.
        sha256: hash of the cases of the training and validation parts.
        split_sha256: hash of the sides of the splits, the test part among them.
        cases: number of cases on each side of the first split; the test part is only counted.
    """

    data: Path | None
    splits: tuple[Path, ...]
    sha256: str
    split_sha256: str
    cases: dict[str, int]


def gather(
    task: Task, data: Path | None, out: Path, settings: RunSettings, folds: int, job: Job
) -> SearchData:
    """Divide the data set, write a split without its test part for each fold, and prepare it.

    No file of a case of the test part is read.

    Args:
        task: what is learned.
        data: the data set; None if none was given.
        out: folder of the search.
        settings: settings that every trial begins from.
        folds: number of folds; 1 trains on the split of the settings.
        job: gets the progress of the preparing.

    Raises:
        MedsegError: see :mod:`medseg_nca.errors`.
    """
    splits = [
        task.divide(data, out, _with_fold(settings, folds, fold), job) for fold in range(folds)
    ]
    known = [split for split in splits if split is not None]
    if not known:
        if folds > 1:
            raise ConfigError(f"The task {task.name} divides no data, so there are no folds.",
                              hint="Leave --folds out.")  # fmt: skip
        return SearchData(data, (), "", "", {})
    for split in known:
        if not split.val:
            raise DataError(
                "The validation part of the split is empty, so trials cannot be compared.",
                hint="Use more cases, or a larger data.split.val.",
            )
    files = tuple(out / SPLITS / f"fold_{fold}.json" for fold in range(folds))
    for split, file in zip(known, files, strict=True):
        write_split(_without_test(split), file)
    write_split(known[0], out / WHOLE)
    seen = sorted({*known[0].train, *known[0].val})
    everything = out / SPLITS / "all.json"
    write_split(Split(train=tuple(seen)), everything)
    data, digest = task.gather(data, out, _listed_only(settings, everything), job)
    sides = {side: len(known[0].side(side)) for side in ("train", "val", "test")}
    absolute = tuple(file.absolute() for file in files)
    return SearchData(
        None if data is None else data.absolute(), absolute, digest, _digest(known), sides
    )


def _with_fold(settings: RunSettings, folds: int, fold: int) -> RunSettings:
    if folds == 1:
        return settings
    split = settings.data.split.changed(folds=folds, fold=fold)
    return settings.changed(data=settings.data.changed(split=split))


def _listed_only(settings: RunSettings, file: Path) -> RunSettings:
    split = settings.data.split.changed(file=file, listed_only=True, folds=None, fold=None)
    return settings.changed(data=settings.data.changed(split=split))


def _without_test(split: Split) -> Split:
    return Split(train=split.train, val=split.val)


def _digest(splits: list[Split]) -> str:
    sides = [[split.train, split.val, split.test] for split in splits]
    return hashlib.sha256(json.dumps(sides).encode()).hexdigest()
