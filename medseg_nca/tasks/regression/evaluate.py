"""Evaluate a model on pairs, on the grid of each pair, beside a constant predictor."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config import Settings
from medseg_nca.config.loading import read_settings, validate, with_overrides
from medseg_nca.config.training import EvaluationSettings, PredictionSettings
from medseg_nca.datasets.pairs import Pair, PairSet, open_pairs
from medseg_nca.datasets.redraw import SPLIT, split_again, split_file
from medseg_nca.datasets.sides import ChosenSide, check_side, choose_side
from medseg_nca.datasets.splits import Split, make_split
from medseg_nca.errors import DataError
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.job import Job
from medseg_nca.metrics.regression import (
    METRICS,
    Values,
    constant_metrics,
    mean_of,
    real_metrics,
    skill,
)
from medseg_nca.metrics.summary import bootstrap_interval, interval_key
from medseg_nca.tasks.base import EvaluateRequest, Evaluation, Tree
from medseg_nca.tasks.regression.begin import data_of
from medseg_nca.tasks.regression.options import RegressionFacts, RegressionOptions
from medseg_nca.tasks.regression.pairs import check_like, read_pair
from medseg_nca.tasks.regression.predictor import RealPredictor
from medseg_nca.tasks.regression.report import write_figures, write_real_report
from medseg_nca.tasks.regression.shared import SharedRegression
from medseg_nca.tracking.results import describe_results, write_results
from medseg_nca.work.case_records import finish, work_folder
from medseg_nca.work.scheduler import gathered, open_scheduler

logger = logging.getLogger(__name__)

# The most voxels of a case that the figure of agreement shows.
_SAMPLED = 2000
SCORE = "skill"


class EvaluateRegressionSettings(Settings):
    """The settings that ``medseg-nca evaluate --set`` can change."""

    evaluation: EvaluationSettings = EvaluationSettings()
    prediction: PredictionSettings = PredictionSettings()


@dataclass(frozen=True)
class EvaluatingPair:
    """One pair to evaluate, and the model with its settings."""

    pair: Pair
    model: SharedRegression


@dataclass(frozen=True)
class Measured:
    """The metrics of a pair.

    Attributes:
        values: metrics of each target channel.
        constant: metrics of the constant predictor for each target channel.
        sample: truth and prediction ``(2, n)`` of some known voxels, for each target channel.
        unlike: in what the image differs from the images of the training.
    """

    values: tuple[Values, ...]
    constant: tuple[Values, ...]
    sample: tuple[NDArray[np.float32], ...]
    unlike: tuple[str, ...] = ()


def evaluate_pairs(
    request: EvaluateRequest, model: TaskModel, facts: RegressionFacts, job: Job
) -> Evaluation:
    """Evaluate a model and write ``metrics.json``, ``metrics.csv``, ``report.html``, ``figures/``.

    Raises:
        DataError: if there is no data set, or every case failed.
        ConfigError: if a setting does not fit.
        OutputError: if the results cannot be written.
        SchedulerError: if no worker can be used.
        Interrupted: if the job was cancelled.
    """
    settings = _settings(request, model, facts)
    source = open_pairs(_data(request, model, job))
    side = _choose(request.split, model, facts, source)
    chosen, notes = side.items, side.notes
    logger.info("%s", side.reason)
    predictor = RealPredictor(model, facts, settings.prediction)
    out = request.out
    count = min(request.workers, len(chosen))
    with open_scheduler(count, request.scheduler, work_folder(out)) as spread:
        shared = SharedRegression(predictor, work_folder(out) if spread.separate else None)
        items = [EvaluatingPair(pair, shared) for pair in chosen]
        outcomes = spread.run_each(measure_pair, items, _files, job)
        found, failed = gathered(outcomes, [pair.id for pair in chosen], job, "evaluating")
    finish(out)
    if not found:
        raise DataError(
            f"{source.root}: all {len(failed)} cases failed, each as said above.",
            hint="Give pairs of the kind that the model was trained on.",
        )
    notes = (*notes, *_unlike(found))
    tree = _tree(found, facts, settings.evaluation)
    tree = {
        **describe_results(
            model, data=source.name, data_hash=source.hash, split=side.side, cases=len(chosen),
            score=SCORE, value=tree["skill"], better="higher",
        ),
        **tree,
        "settings": {**settings.model_dump(mode="json"), "engine": model.engine},
        "notes": [side.reason, *notes],
        "failed": [{"id": name, "error": text} for name, text in failed.items()],
    }  # fmt: skip
    figures = write_figures(tree, found, {p.id: p for p in chosen}, predictor, out / "figures")
    write_real_report(tree, figures, model.spec, out / "report.html")
    write_results(tree, _rows(tree), out)
    return Evaluation(out, tree, failed)


def measure_pair(work: EvaluatingPair, job: Job) -> Measured:
    """Predict the image of a pair, and compare the prediction with the target.

    Raises:
        DataError: if the pair cannot be used.
    """
    predictor = work.model.predictor
    facts = predictor.facts
    read = read_pair(work.pair, facts.unknown)
    channels = len(facts.plan.channels)
    check_like(work.pair, read, facts.plan.dims, channels, len(facts.targets))
    prediction = predictor.predict(read.image, job)
    found = prediction.values.array
    values, constant, sample = [], [], []
    for known, predicted, truth in zip(facts.targets, found, read.target, strict=True):
        values.append(real_metrics(predicted, truth))
        constant.append(constant_metrics(known.average, truth))
        sample.append(_sample(predicted, truth))
    return Measured(tuple(values), tuple(constant), tuple(sample), prediction.likeness.unlike)


def _sample(predicted: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.float32]:
    places = np.flatnonzero(~np.isnan(truth))
    if len(places) > _SAMPLED:
        places = np.random.default_rng(0).choice(places, _SAMPLED, replace=False)
    return np.stack([truth.flat[places], predicted.flat[places]])


def _files(work: EvaluatingPair) -> Sequence[Path]:
    return (*work.pair.images, work.pair.target)


def _settings(
    request: EvaluateRequest, model: TaskModel, facts: RegressionFacts
) -> EvaluateRegressionSettings:
    tree: Tree = {"prediction": facts.prediction.model_dump()}
    stored = model.folder.parent / "settings.yaml"
    if stored.is_file():
        tree["evaluation"] = read_settings(stored).evaluation.model_dump()
    tree = with_overrides(tree, request.overrides)
    return validate(EvaluateRegressionSettings, tree, source="--set")


def _data(request: EvaluateRequest, model: TaskModel, job: Job) -> Path:
    """Return the data set that is given, or else the made-up one that the model learned from."""
    options = validate(RegressionOptions, model.spec.options, source="options of the model")
    run = model.folder.parent
    place = run if request.data is None and (run / SPLIT).is_file() else request.out
    return data_of(request.data, options, place, job)


def _choose(
    name: str, model: TaskModel, facts: RegressionFacts, pairs: PairSet
) -> ChosenSide[Pair]:
    check_side(name)
    learned = model.spec.training_data_hash == pairs.hash
    side = choose_side(pairs.cases, _split(model, facts, pairs), name, learned=learned)
    if side.split_hash and side.split_hash != pairs.hash:
        note = "The data set has changed since the run split it; cases are matched by id."
        side = replace(side, notes=(*side.notes, note))
    return side


def _split(model: TaskModel, facts: RegressionFacts, pairs: PairSet) -> Split | None:
    """Return the split of the run that trained the model; None if it is not known."""
    digest = pairs.hash
    if digest != model.spec.training_data_hash:
        return split_file(model.folder)
    draw = partial(make_split, pairs, dataset_hash=digest)
    found = split_again(model.folder, digest, facts.split, facts.listed, draw)
    return split_file(model.folder) if found is None else found


def _unlike(found: Mapping[str, Measured]) -> tuple[str, ...]:
    strange = [name for name, measured in found.items() if measured.unlike]
    if not strange:
        return ()
    words = found[strange[0]].unlike[0]
    return (f"{len(strange)} images are unlike those of the training; of {strange[0]}: {words}.",)


def _tree(
    found: Mapping[str, Measured], facts: RegressionFacts, settings: EvaluationSettings
) -> Tree:
    targets = {
        target.name: _target(
            [m.values[index] for m in found.values()],
            [m.constant[index] for m in found.values()], facts.unit, settings,
        )
        for index, target in enumerate(facts.targets)
    }  # fmt: skip
    cases = [
        {
            "id": name,
            "targets": {
                target.name: {k: _number(v) for k, v in measured.values[index].items()}
                for index, target in enumerate(facts.targets)
            },
            "constant": {
                target.name: _number(measured.constant[index]["rmse"])
                for index, target in enumerate(facts.targets)
            },
        }
        for name, measured in found.items()
    ]
    parts = targets.values()
    found_skill = skill(
        [part["rmse"]["mean"] for part in parts], [part["constant"]["rmse"] for part in parts]
    )
    return {
        "skill": _number(found_skill),
        "confidence": settings.confidence,
        "targets": targets,
        "cases": cases,
    }


def _target(
    rows: Sequence[Values], constant: Sequence[Values], unit: str, settings: EvaluationSettings
) -> Tree:
    """Return all metrics of one target, those of the constant predictor, and the ratio of RMSE."""
    tree: Tree = {"unit": unit}
    for metric in METRICS:
        column = np.array([np.nan if (v := row[metric]) is None else v for row in rows])
        known = column[~np.isnan(column)]
        interval = bootstrap_interval(
            column, resamples=settings.bootstrap, confidence=settings.confidence
        )
        tree[metric] = {
            "mean": _number(mean_of(rows, metric)),
            "median": _number(float(np.median(known)) if known.size else None),
            "sd": _number(float(known.std(ddof=1)) if known.size > 1 else None),
            interval_key(settings.confidence): interval and [_number(v) for v in interval],
            "n": int(known.size),
        }
    tree["constant"] = {metric: _number(mean_of(constant, metric)) for metric in METRICS}
    own, other = mean_of(rows, "rmse"), mean_of(constant, "rmse")
    tree["ratio"] = _number(other / own) if own and other is not None else None
    return tree


def _rows(tree: Tree) -> list[Tree]:
    return [
        {"case": case["id"], "target": name, **values, "constant_rmse": case["constant"][name]}
        for case in tree["cases"]
        for name, values in case["targets"].items()
    ]


def _number(value: float | None) -> float | None:
    """Return a number for JSON, rounded to 6 digits; None for NaN."""
    return None if value is None or np.isnan(value) else float(f"{value:.6g}")
