"""Prepare a data set: measure every case, plan, bring every case to the planned grid."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from medseg_nca import __version__
from medseg_nca.cases.prepare_case import (
    MEASUREMENTS,
    Measuring,
    Prepared,
    Preparing,
    measure_case,
    placed,
    prepare_case,
    remove_file,
)
from medseg_nca.config import Label, LabelTable, PreprocessPlan, RunSettings
from medseg_nca.datasets.base import Case, DataSet
from medseg_nca.datasets.find import open_dataset
from medseg_nca.datasets.hashing import dataset_hash, remember_hash
from medseg_nca.datasets.prepared import (
    CASES,
    FINGERPRINT,
    INDEX,
    FailedCase,
    PreparedCase,
    PreparedIndex,
    PreparedStore,
    write_store,
)
from medseg_nca.datasets.rules import (
    channels_problem,
    doubtful_labels,
    ignored_folders,
    labels_problem,
    other_channels,
    usual,
    usual_channels,
)
from medseg_nca.datasets.splits import listed_cases, make_split
from medseg_nca.errors import DataError, MedsegError, OutputError, PartialFailure
from medseg_nca.io.atomic import remove_leftovers, write_json
from medseg_nca.job import Job
from medseg_nca.recipe.sample_demands import sample_demands
from medseg_nca.transforms.fingerprint import CaseFingerprint, summarise
from medseg_nca.transforms.planning import make_plan
from medseg_nca.work.case_records import work_folder
from medseg_nca.work.scheduler import (
    Outcome,
    Scheduler,
    counted,
    open_scheduler,
)

logger = logging.getLogger(__name__)

# Starting processes that import torch takes seconds; this many bytes are prepared in that time.
_SMALL = 50_000_000
_SAFE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class _Work:
    """What the stages of a run share."""

    out: Path
    spread: Scheduler
    job: Job

    def each(
        self, function: Callable[[Any, Job], Any], items: Mapping[str, Any], stage: str
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Do a stage; returns results and reasons of failure by case id, in the order of items."""
        ids = list(items)
        outcomes: dict[int, Outcome[Any]] = {}
        running = self.spread.run_each(function, items.values(), _files, self.job)
        for outcome in counted(running, self.job, stage, len(ids)):
            outcomes[outcome.index] = outcome
            if outcome.error is not None:
                logger.error("%s: %s", ids[outcome.index], outcome.error)
        ordered = [(ids[index], outcomes[index]) for index in range(len(ids))]
        results = {name: o.result for name, o in ordered if o.error is None}
        return results, {name: o.error for name, o in ordered if o.error is not None}


@dataclass(frozen=True)
class PreprocessRequest:
    """What is to be prepared, from what, and by how many.

    Attributes:
        data: folder of the data set.
        out: folder of the prepared data set.
        settings: of the run; ``data``, ``preprocess`` and the model's levels count.
        workers: processes; None takes the CPU cores, and none for a small data set.
        scheduler: address of a Dask scheduler, whose workers see ``data`` and ``out``.
        fresh: measure and prepare all cases again.
        plan: to be kept, for a run that goes on; None makes one.
        for_run: whether a training asks, which speaks of its split itself.
    """

    data: Path
    out: Path
    settings: RunSettings
    workers: int | None = None
    scheduler: str | None = None
    fresh: bool = False
    plan: PreprocessPlan | None = None
    for_run: bool = False


def run(request: PreprocessRequest, job: Job | None = None) -> PreparedStore:
    """Prepare a data set for training.

    Each finished case is kept, also when the run is stopped or killed: the same request goes on
    from there. A case is made again only if its files, or the settings that touch it, changed.

    Args:
        request: what is to be done.
        job: told how far it is, under the phases "measuring" and "preparing".

    Returns:
        The prepared data set.

    Raises:
        DataError: if there is no data set, or no case of it can be used.
        ConfigError: if a setting does not fit the data.
        OutputError: if the results cannot be written.
        SchedulerError: if no worker can be used.
        PartialFailure: after the last case, if some failed; the others are prepared and usable.
        Interrupted: if the job was cancelled.
    """
    data, out, settings, plan = request.data, request.out, request.settings, request.plan
    workers = request.workers
    dataset = _listed(open_dataset(data, settings.data.format, check_files=False), settings)
    _check(dataset, data, out)
    _tidy(out, request.fresh)
    count = _workers(dataset) if workers is None else min(workers, len(dataset.cases))
    with open_scheduler(count, request.scheduler, work_folder(out)) as spread:
        if spread.remote:
            dataset = _absolute(dataset)
        work = _Work(out.absolute() if spread.remote else out, spread, job or Job())
        measured, failed = _measure(dataset, work)
        plan = plan or _plan(dataset, measured, settings, request.for_run)
        labels = _labels(dataset, measured, settings)
        cases, more = _prepare(dataset, measured, plan, labels, work)
    failed |= more
    if not cases:
        raise _none_left(data, failed)
    store = _finish(dataset, cases, failed, measured, plan, labels, out)
    if not request.for_run:
        _warn_of_thin_labels(store, settings)
    if failed:
        raise PartialFailure(
            f"{len(failed)} of {len(dataset.cases)} cases failed; {out / INDEX} says why.",
            hint=f"The other {len(cases)} are prepared in {out}. Mend these and run it again, or "
            "train without them.",
            failures=failed,
        )
    return store


def _listed(dataset: DataSet, settings: RunSettings) -> DataSet:
    """Leave out the cases that the run may not read."""
    listed = listed_cases(settings.data.split)
    if listed is None:
        return dataset
    return replace(dataset, cases=tuple(case for case in dataset.cases if case.id in listed))


def _check(dataset: DataSet, data: Path, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file.", hint="Name a folder with --out.")
    if out.resolve() == data.resolve():
        raise OutputError(
            f"{out}: is the folder of the data set itself.", hint="Name another folder with --out."
        )
    for case in dataset.cases:
        if not _SAFE_ID.fullmatch(case.id):
            raise DataError(f"{data}: {case.id!r} cannot be a case's name: it names its file.")
    for left in ignored_folders(dataset):
        logger.warning("%s %s", left.message, left.hint)


def _tidy(out: Path, fresh: bool) -> None:
    """Remove what killed processes left half-written; and all that was made, to make it anew."""
    for folder in (out, out / CASES, out / MEASUREMENTS):
        remove_leftovers(folder)
    if fresh:
        remove_file(out / INDEX)
        _remove_strangers(out, ())


def _files(work: Measuring | Preparing) -> tuple[Path, ...]:
    """What a worker must see of a case."""
    return (*work.case.images, *((work.case.label,) if work.case.label else ()))


def _absolute(dataset: DataSet) -> DataSet:
    """For workers whose current folder is another one."""
    cases = tuple(
        replace(
            case,
            images=tuple(path.absolute() for path in case.images),
            label=None if case.label is None else case.label.absolute(),
        )
        for case in dataset.cases
    )
    return replace(dataset, cases=cases)


def _workers(dataset: DataSet) -> int:
    files = [path for case in dataset.cases for path in case.images]
    size = sum(path.stat().st_size for path in files if path.exists())
    return 0 if size < _SMALL else os.cpu_count() or 1


def _measure(dataset: DataSet, work: _Work) -> tuple[dict[str, CaseFingerprint], dict[str, str]]:
    """Measure the cases; those that differ in axes or channels from the others fail."""
    items = {case.id: Measuring(case, work.out) for case in dataset.cases}
    measured, failed = work.each(measure_case, items, "measuring")
    if not measured:
        raise _none_left(dataset.root, failed)
    dims = usual([len(found.shape) for found in measured.values()], dataset.dims)
    for name, found in list(measured.items()):
        if len(found.shape) != dims:
            failed[name] = (
                f"{_file(dataset, name)}: has {len(found.shape)} axes {found.shape}; the data set "
                f"has {dims}."
            )
            logger.error("%s: %s", name, failed[name])
            del measured[name]
    return measured, failed


def _plan(
    dataset: DataSet,
    measured: dict[str, CaseFingerprint],
    settings: RunSettings,
    for_run: bool,
) -> PreprocessPlan:
    counts = [len(found.channels) for found in measured.values()]
    dims = len(next(iter(measured.values())).shape)
    channels = usual_channels(dataset, counts, dims)
    if problem := channels_problem(channels, dims):
        raise problem.error()
    if problem := other_channels(dataset, channels):
        logger.warning("%s %s", problem.message, problem.hint)
    # Cases with other channels fail by name when they are prepared; they do not decide anything.
    usable = {
        name: found for name, found in measured.items() if len(found.channels) == len(channels)
    }
    demands = partial(sample_demands, settings)
    learning = _learning(dataset, usable, settings) if for_run else None
    plan = make_plan(usable, settings.preprocess, channels, dataset.modality, demands, learning)
    logger.info("Plan: %s", _in_words(plan))
    return plan


def _learning(
    dataset: DataSet, usable: Collection[str], settings: RunSettings
) -> tuple[str, ...] | None:
    """The cases of the training part; None where the run cannot divide the data."""
    cases = tuple(case for case in dataset.cases if case.id in usable)
    try:
        return make_split(_Cases(cases), settings.data.split).train
    except MedsegError:
        return None  # the training says what is wrong with the split


def _labels(
    dataset: DataSet, measured: Mapping[str, CaseFingerprint], settings: RunSettings
) -> LabelTable:
    """The table of the settings or the data set; else label_1, label_2, ... from the label maps."""
    table = settings.data.labels or dataset.labels
    values = {value for found in measured.values() for value in found.labels or {}}
    problem = labels_problem(table, values)
    if problem is not None:
        raise problem.error()
    if table is not None:
        return table
    if doubt := doubtful_labels(table, values):
        logger.warning("%s %s", doubt.message, doubt.hint)
    seen = sorted(values - {0})
    names = ", ".join(f"label_{value}" for value in seen)
    logger.warning("The data set does not name its labels; taking those seen: %s.", names)
    return LabelTable(labels=tuple(Label(name=f"label_{v}", values=(v,)) for v in seen))


def _prepare(
    dataset: DataSet,
    measured: Mapping[str, CaseFingerprint],
    plan: PreprocessPlan,
    labels: LabelTable,
    work: _Work,
) -> tuple[dict[str, PreparedCase], dict[str, str]]:
    items = {
        case.id: Preparing(case, work.out, plan, labels)
        for case in dataset.cases
        if case.id in measured
    }
    done, failed = work.each(prepare_case, items, "preparing")
    results: dict[str, Prepared] = done
    for result in results.values():
        for path, digest in result.hashes.items():
            remember_hash(Path(path), digest)
    cached = sum(result.cached for result in results.values())
    logger.info("Prepared %d cases; %d were up to date.", len(results), cached)
    prepared = {
        name: placed(result.case, measured[name], plan, labels) for name, result in results.items()
    }
    return prepared, failed


def _finish(
    dataset: DataSet,
    cases: Mapping[str, PreparedCase],
    failed: Mapping[str, str],
    measured: Mapping[str, CaseFingerprint],
    plan: PreprocessPlan,
    labels: LabelTable,
    out: Path,
) -> PreparedStore:
    good = tuple(case for case in dataset.cases if case.id in cases)
    _remove_strangers(out, dataset.cases)
    write_json(out / FINGERPRINT, summarise({case.id: measured[case.id] for case in good}))
    index = PreparedIndex(
        package_version=__version__,
        name=dataset.name,
        modality=dataset.modality,
        dataset_hash=dataset_hash(_Cases(good)),
        labels=labels,
        cases=tuple(cases[case.id] for case in good),
        failed=tuple(FailedCase(id=name, error=failed[name]) for name in sorted(failed)),
    )
    return write_store(out, index, plan)


@dataclass(frozen=True)
class _Cases:
    """A part of a data set."""

    cases: tuple[Case, ...]


def _warn_of_thin_labels(store: PreparedStore, settings: RunSettings) -> None:
    """Name the labels that a training with these settings cannot learn, or not validate."""
    try:
        split = make_split(store, settings.data.split)
    except MedsegError:
        return  # no training is asked for yet; it will say what is wrong with the split
    for problem in store.thin_labels(split):
        logger.warning("With the split of these settings: %s %s", problem.message, problem.hint)


def _remove_strangers(out: Path, cases: Sequence[Case]) -> None:
    """Remove the cached files of cases that are no longer in the data set."""
    known = {case.id for case in cases}
    for folder, suffix in ((out / CASES, ".npz"), (out / MEASUREMENTS, ".json")):
        for path in folder.glob(f"*{suffix}"):
            if path.name.removesuffix(suffix) not in known:
                remove_file(path)


def _file(dataset: DataSet, name: str) -> Path:
    return next(case.images[0] for case in dataset.cases if case.id == name)


def _none_left(data: Path, failed: Mapping[str, str]) -> DataError:
    return DataError(
        f"{data}: none of the {len(failed)} cases can be prepared, each as said above.",
        hint=f"Look at the data set: medseg-nca data check {data}",
    )


def _in_words(plan: PreprocessPlan) -> str:
    spacing = "as stored"
    if plan.spacing is not None:
        spacing = " x ".join(f"{v:g}" for v in plan.spacing) + " mm"
    size = " x ".join(map(str, plan.crop_size))
    return (
        f"{plan.dims}D, {', '.join(plan.channels)}, {plan.orientation or 'as stored'}, spacing "
        f"{spacing}, {plan.normalise}, samples of {size} voxels, {len(plan.scales)} levels."
    )
