"""Begin a training: from the data of a run to its pairs, split, plan and facts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from medseg_nca.config import RunSettings
from medseg_nca.config.bounds import MAX_CHANNELS
from medseg_nca.config.explain import explain
from medseg_nca.config.presets import Tree
from medseg_nca.datasets.depth_phantom import write_depth_phantom
from medseg_nca.datasets.layout import names_for, read_json_object
from medseg_nca.datasets.pairs import SEGMENTATION, Pair, PairSet, open_pairs
from medseg_nca.datasets.redraw import SPLIT, kept_of
from medseg_nca.datasets.rules import few_cases
from medseg_nca.datasets.splits import (
    Split,
    listed_cases,
    make_split,
    read_split,
    write_split,
)
from medseg_nca.errors import ConfigError, DataError
from medseg_nca.io.atomic import write_json
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.recipe.sample_demands import sample_demands
from medseg_nca.tasks.base import Start
from medseg_nca.tasks.regression.learner import LearnedData, fitted_model
from medseg_nca.tasks.regression.options import RegressionFacts, RegressionOptions
from medseg_nca.tasks.regression.pairs import ReadPair, check_like, read_pair
from medseg_nca.tasks.regression.predictor import check_prediction
from medseg_nca.tasks.regression.values import TargetSums
from medseg_nca.transforms.fingerprint import CaseFingerprint, measure
from medseg_nca.transforms.planning import make_plan

logger = logging.getLogger(__name__)

FACTS, PREPARED, PHANTOM = "facts.json", "prepared", "phantom"
# If all targets together hold at most this many values, all whole, they are taken for labels.
_FEW = 16


def data_of(given: Path | None, options: RegressionOptions, out: Path, job: Job) -> Path:
    """Return the data set that is given, or else a made-up one, which is made in ``out``.

    Raises:
        DataError: if none is given, and the options do not ask for the made-up one.
    """
    if given is not None:
        return given
    if options.data != "phantom":
        raise DataError(
            "The task regression needs pairs of images and targets.",
            hint="Name them with --data DIR, or set options.data=phantom for a made-up data set.",
        )
    wanted, folder = options.phantom, out / PHANTOM
    if not folder.is_dir():
        logger.info("Making %d cases of the phantom in %s.", wanted.cases, folder)
        write_depth_phantom(
            folder, wanted.cases, wanted.seed, wanted.dims, wanted.size, job=job.silent()
        )
    return folder


def learned_data(start: Start, options: RegressionOptions, job: Job) -> LearnedData:
    """Read, check, split and plan the data of a run; a resumed run keeps its split and plan.

    Args:
        start: what the training begins with; its settings have a value for every "auto".
        options: options of the task.
        job: gets the progress, in the phase "measuring".

    Raises:
        DataError: if nothing can be learned from a pair, which the message names; or if the data
            set is not the one that the run was started with.
        ConfigError: if a setting does not fit the data.
    """
    pairs = _listed(open_pairs(data_of(start.data, options, start.out, job)), start.settings)
    digest = pairs.hash
    kept = start.follows and (start.out / SPLIT).is_file() and (start.out / FACTS).is_file()
    if kept:
        split, facts = read_split(start.out / SPLIT), _read_facts(start.out / FACTS)
        if split.dataset_hash != digest:
            raise DataError(
                f"{start.out / SPLIT}: the data set is not the one that the run was started with.",
                hint="Resume with the same data, or start a new run.",
            )
    else:
        split = make_split(pairs, start.settings.data.split, digest)
        for problem in few_cases(split.train, split.val):
            logger.warning("%s %s", problem.message, problem.hint)
        facts = _planned(pairs, split, start.settings, options, job)
        write_split(split, start.out / SPLIT)
        write_json(start.out / FACTS, facts.model_dump(mode="json"))
    return LearnedData(
        pairs.name, digest, {pair.id: pair for pair in pairs.cases}, split, facts,
        start.out / PREPARED,
    )  # fmt: skip


def divide(
    data: Path | None, out: Path, settings: RunSettings, options: RegressionOptions, job: Job
) -> Split:
    """Divide a data set, as :meth:`medseg_nca.tasks.base.Task.divide` says."""
    return make_split(open_pairs(data_of(data, options, out, job)), settings.data.split)


def gather(
    data: Path | None, out: Path, settings: RunSettings, options: RegressionOptions, job: Job
) -> tuple[Path, str]:
    """Return the data set and the hash of the listed pairs; see ``Task.gather``."""
    path = data_of(data, options, out, job)
    return path, _listed(open_pairs(path), settings).hash


def _listed(pairs: PairSet, settings: RunSettings) -> PairSet:
    """Leave out the pairs that the run may not read."""
    listed = listed_cases(settings.data.split)
    if listed is None:
        return pairs
    return replace(pairs, cases=tuple(pair for pair in pairs.cases if pair.id in listed))


@dataclass
class _Found:
    """What the pairs that were read have in common."""

    sums: TargetSums
    cases: dict[str, CaseFingerprint] = field(default_factory=dict)
    first: ReadPair | None = None
    values: set[float] = field(
        default_factory=set
    )  # all values of the targets, as long as they may be labels
    few: bool = True


def _planned(
    pairs: PairSet, split: Split, settings: RunSettings, options: RegressionOptions, job: Job
) -> RegressionFacts:
    """Read every pair, and decide from those of the training how all are prepared."""
    notes, train = pairs.notes, set(split.train)
    unknown = notes.unknown if options.unknown is None else options.unknown
    found = _Found(TargetSums(options.transform))
    total = len(pairs.cases)
    for number, pair in enumerate(pairs.cases, 1):
        _look(pair, found, unknown, options, learns=pair.id in train)
        job.report("measuring", number, total, unit="cases")
    if found.few and not options.few_values:
        shown = ", ".join(f"{value:g}" for value in sorted(found.values))
        raise DataError(
            f"{pairs.root}: all targets together hold {len(found.values)} whole numbers ({shown}): "
            "they look like label maps.",
            hint=f"{SEGMENTATION} If they are real targets: options.few_values=true.",
        )
    assert found.first is not None
    image, target = found.first.image, found.first.target
    channels = notes.channels or names_for(image.channels, image.dims)
    names = notes.targets or _target_names(len(target))
    for what, said, there in (
        ("channels", channels, image.channels), ("targets", names, len(target)),
    ):  # fmt: skip
        if len(said) != there:
            raise DataError(
                f"{pairs.root}: names {len(said)} {what} ({', '.join(said)}), and the files have "
                f"{there}."
            )
    if max(image.channels, len(target)) > MAX_CHANNELS:
        raise DataError(f"{pairs.root}: at most {MAX_CHANNELS} channels can be used.")
    plan_settings = settings.preprocess
    if plan_settings.crop == "nonzero":
        raise ConfigError(
            "preprocess.crop: nonzero would leave targets outside the crop without an answer.",
            hint="Leave it out for the task regression.",
        )
    check_prediction(settings.prediction, image.dims)
    plan = make_plan(
        found.cases, plan_settings.changed(crop="none"), channels, notes.modality,
        partial(sample_demands, settings),
    )  # fmt: skip
    prediction = settings.prediction
    if prediction.flips == "auto":
        prediction = prediction.changed(flips=())
    fitted_model(settings.model, plan, len(target))
    return RegressionFacts(
        plan=plan, targets=found.sums.facts(names), transform=options.transform, unit=notes.unit,
        unknown=unknown, prediction=prediction, **kept_of(settings.data.split, split),
    )  # fmt: skip


def _look(
    pair: Pair, found: _Found, unknown: float | None, options: RegressionOptions, *, learns: bool
) -> None:
    read = read_pair(pair, unknown)
    if found.first is None:
        found.first = read
    first = found.first
    check_like(pair, read, first.image.dims, first.image.channels, len(first.target))
    known = ~np.isnan(read.target)
    values = read.target[known]
    if options.transform == "log" and values.min() <= 0:
        raise DataError(
            f"{pair.target}: holds {values.min():g}, and options.transform=log needs targets "
            "above 0.",
            hint="If this number says that nothing is known, set options.unknown; else set "
            "options.transform=none.",
        )
    if found.few:
        found.values |= set(np.unique(values)[: _FEW + 1].tolist())
        whole = all(float(value).is_integer() for value in found.values)
        found.few = whole and len(found.values) <= _FEW
    if learns:
        mask = np.asarray(known.any(axis=0, keepdims=True), np.uint8)
        label = Volume(mask, read.image.affine, (pair.target,))
        found.cases[pair.id] = measure(read.image, label)
        found.sums.add(read.target)


def _target_names(count: int) -> tuple[str, ...]:
    return ("target",) if count == 1 else tuple(f"target_{i}" for i in range(count))


def _read_facts(path: Path) -> RegressionFacts:
    tree: Tree = read_json_object(path)
    try:
        return RegressionFacts.model_validate(tree)
    except ValidationError as error:
        raise DataError(
            f"{path}: is damaged ({explain(RegressionFacts, error)}).", hint="Start a new run."
        ) from error
