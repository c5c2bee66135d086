"""The data of a search: divided once, prepared once, and without the test part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
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
    """

    data: Path | None
    splits: tuple[Path, ...]
    sha256: str


def divide(
    task: Task, data: Path | None, out: Path, settings: RunSettings, folds: int, job: Job
) -> list[Split]:
    """Divide the data set, once for each fold.

    No voxels are read; but where no file says how many axes and channels the images have, the first
    image of the data set is looked at, whichever part it falls into: its header, and of a picture
    or a DICOM series the whole.

    Args:
        task: what is learned.
        data: the data set; None if none was given.
        out: folder of the search.
        settings: settings that every trial begins from.
        folds: number of folds; 1 trains on the split of the settings.
        job: asked whether to go on.

    Returns:
        The splits, with their test parts; none if the task divides no data.

    Raises:
        MedsegError: see :mod:`medseg_nca.errors`.
    """
    found = [
        task.divide(data, out, _with_fold(settings, folds, fold), job) for fold in range(folds)
    ]
    splits = [split for split in found if split is not None]
    if not splits and folds > 1:
        raise ConfigError(
            f"The task {task.name} divides no data, so there are no folds.",
            hint="Leave --folds out.",
        )
    if any(not split.val for split in splits):
        raise DataError(
            "The validation part of the split is empty, so trials cannot be compared.",
            hint="Use more cases, or a larger data.split.val.",
        )
    return splits


def gather(
    task: Task, data: Path | None, out: Path, settings: RunSettings, splits: Sequence[Split],
    job: Job,
) -> SearchData:  # fmt: skip
    """Write each split without its test part, and prepare the other cases once.

    No file of a case of the test part is read, but for the first image, as :func:`divide` says.

    Args:
        task: what is learned.
        data: the data set; None if none was given.
        out: folder of the search.
        settings: settings that every trial begins from.
        splits: what :func:`divide` returned.
        job: gets the progress of the preparing.

    Raises:
        DataError: if the folder holds the prepared data of another data set.
        MedsegError: see :mod:`medseg_nca.errors`.
    """
    if not splits:
        return SearchData(data, (), "")
    files = tuple(out / SPLITS / f"fold_{fold}.json" for fold in range(len(splits)))
    everything = out / SPLITS / "all.json"
    write_split(Split(train=tuple(sorted({*splits[0].train, *splits[0].val}))), everything)
    data, digest = task.gather(data, out, _listed_only(settings, everything), job)
    for split, file in zip(splits, files, strict=True):
        write_split(_without_test(split), file)
    write_split(splits[0], out / WHOLE)
    absolute = tuple(file.absolute() for file in files)
    return SearchData(None if data is None else data.absolute(), absolute, digest)


def digest_of(splits: Sequence[Split]) -> str:
    """Return the hash of the sides of splits, the test parts among them; "" of none."""
    sides = [[split.train, split.val, split.test] for split in splits]
    return hashlib.sha256(json.dumps(sides).encode()).hexdigest() if sides else ""


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
