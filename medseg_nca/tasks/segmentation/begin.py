"""Begin a training of a segmentation: prepare the data, make a split, and plan with reasons."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

from medseg_nca.config import RunSettings
from medseg_nca.cores import cores
from medseg_nca.datasets.find import open_dataset
from medseg_nca.datasets.hashing import dataset_hash
from medseg_nca.datasets.prepared import PreparedStore, is_prepared
from medseg_nca.datasets.rules import few_cases
from medseg_nca.datasets.splits import Split, make_split, read_split, write_split
from medseg_nca.errors import ConfigError, DataError, PartialFailure
from medseg_nca.job import Job
from medseg_nca.pipelines import preprocess
from medseg_nca.pipelines.run_folder import SPLIT
from medseg_nca.pipelines.run_time import time_table
from medseg_nca.recipe import Machine, decide
from medseg_nca.tasks.base import Start, Training
from medseg_nca.tasks.segmentation.learner import SegmentationLearner

logger = logging.getLogger(__name__)

PREPARED = "prepared"  # the folder of the prepared data, in that of a run or of a search


def begin(start: Start, job: Job) -> Training:
    """Begin a training, as :meth:`medseg_nca.tasks.base.Task.begin` says.

    A data set that is not prepared is prepared in the run folder.

    Raises:
        DataError: if there is no data set, or a resumed run was started with another one.
        ConfigError: if the data set was prepared for other labels than the settings name.
        Interrupted: if the job was cancelled.
    """
    data = start.data
    assert data is not None, "the task needs data, which was checked before"
    store = _prepared(data, start.out, start.settings, start.follows, job)
    split = _split_of(store, start)
    if start.first:
        _warn_of_what_is_missing(store, split)
    settings, decisions = start.settings, start.decisions
    if decisions is None:
        machine = Machine(cores(), start.device.type)
        settings, decisions = decide(settings, store, split, machine)
    prepared = store.folder == data
    return Training(
        SegmentationLearner(settings, store, split),
        settings,
        decisions,
        data=store.folder,
        data_hash=store.dataset_hash,
        held_out=next(side for side in ("test", "val", "train") if split.side(side)),
        files=(start.out / SPLIT,),
        time_table=partial(time_table, settings=settings, plan=store.plan, prepared=prepared),
    )


def divide(data: Path | None, settings: RunSettings) -> Split:
    """Divide a data set, raw or prepared, as :meth:`medseg_nca.tasks.base.Task.divide` says."""
    assert data is not None, "the task needs data, which was checked before"
    if is_prepared(data):
        return make_split(PreparedStore.open(data), settings.data.split)
    dataset = open_dataset(data, settings.data.format, check_files=False)
    return make_split(dataset, settings.data.split)


def gather(data: Path | None, out: Path, settings: RunSettings, job: Job) -> tuple[Path, str]:
    """Prepare the listed cases, as :meth:`medseg_nca.tasks.base.Task.gather` says."""
    assert data is not None, "the task needs data, which was checked before"
    if not is_prepared(data) and is_prepared(out / PREPARED):
        _check_source(PreparedStore.open(out / PREPARED), data, settings)
    store = _prepared(data, out, settings, follows=True, job=job)
    return store.folder, store.dataset_hash


def _check_source(store: PreparedStore, data: Path, settings: RunSettings) -> None:
    """Refuse to prepare a data set where another one lies prepared."""
    known = {case.id for case in store.cases}
    dataset = open_dataset(data, settings.data.format, check_files=False)
    same = replace(dataset, cases=tuple(case for case in dataset.cases if case.id in known))
    if dataset_hash(same) != store.dataset_hash:
        raise DataError(
            f"{store.folder}: was prepared from another data set than {data}, or from another "
            "state of it.",
            hint="Name another folder with --out, or bring the data back to what they were.",
        )


def _prepared(
    data: Path, out: Path, settings: RunSettings, follows: bool, job: Job
) -> PreparedStore:
    if is_prepared(data):
        return _fitting(PreparedStore.open(data), data, settings)
    folder = out / PREPARED
    logger.info("%s is not prepared yet; preparing it in %s.", data, folder)
    try:
        kept = PreparedStore.open(folder).plan if follows and is_prepared(folder) else None
        wanted = preprocess.PreprocessRequest(data, folder, settings, plan=kept, for_run=True)
        return preprocess.run(wanted, job)
    except PartialFailure as failure:
        logger.warning("%s Training goes on without them.", failure.message)
        return PreparedStore.open(folder)


def _fitting(store: PreparedStore, data: Path, settings: RunSettings) -> PreparedStore:
    labels = settings.data.labels
    if labels is not None and labels != store.labels:
        raise ConfigError(
            f"{data}: was prepared for the labels {', '.join(store.labels.names)}, but the "
            f"settings say {', '.join(labels.names)}.",
            hint="Prepare it again with these settings.",
        )
    return store


def _split_of(store: PreparedStore, start: Start) -> Split:
    path = start.out / SPLIT
    if start.follows and path.exists():
        split = read_split(path)
        if split.dataset_hash and split.dataset_hash != store.dataset_hash:
            raise DataError(
                f"{path}: the data set is not the one that the run was started with.",
                hint="Resume with the same data, or start a new run.",
            )
        return split
    split = make_split(store, start.settings.data.split)
    write_split(split, path)
    return split


def _warn_of_what_is_missing(store: PreparedStore, split: Split) -> None:
    """Warn if there is nothing to validate, or a label has too few cases."""
    fold = "" if split.fold is None else f"Fold {split.fold} of {split.folds}: "
    for problem in (*few_cases(split.train, split.val), *store.thin_labels(split)):
        logger.warning("%s%s %s", fold, problem.message, problem.hint)
