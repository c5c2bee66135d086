"""Evaluate a model on pairs, on the grid of each pair, beside a constant predictor."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from medseg_nca.config import Settings
from medseg_nca.config.loading import read_settings, validate, with_overrides
from medseg_nca.config.training import EvaluationSettings, PredictionSettings
from medseg_nca.datasets.pairs import Pair, PairSet, open_pairs
from medseg_nca.datasets.redraw import SPLIT, split_again, split_file
from medseg_nca.datasets.sides import ChosenSide, check_side, choose_side
from medseg_nca.datasets.splits import Split, make_split
from medseg_nca.errors import DataError
from medseg_nca.inference.engine_choice import engine_settings
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.job import Job
from medseg_nca.metrics.regression import METRICS, Values, mean_of, skill
from medseg_nca.metrics.summary import bootstrap_interval, interval_key
from medseg_nca.tasks.base import EvaluateRequest, Evaluation, Tree
from medseg_nca.tasks.regression.begin import data_of
from medseg_nca.tasks.regression.measure import EvaluatingPair, Measured, measure_pair
from medseg_nca.tasks.regression.options import RegressionFacts, RegressionOptions
from medseg_nca.tasks.regression.predictor import RealPredictor
from medseg_nca.tasks.regression.report import write_figures, write_real_report
from medseg_nca.tasks.regression.shared import SharedRegression
from medseg_nca.tracking.evaluation import METRICS as METRICS_FILE
from medseg_nca.tracking.results import describe_results, write_results
from medseg_nca.work.case_records import finish, forget, work_folder
from medseg_nca.work.scheduler import gathered, open_scheduler

logger = logging.getLogger(__name__)

SCORE = "skill"


class EvaluateRegressionSettings(Settings):
    """The settings that ``medseg-nca evaluate --set`` can change."""

    evaluation: EvaluationSettings = EvaluationSettings()
    prediction: PredictionSettings = PredictionSettings()


def evaluate_pairs(
    request: EvaluateRequest, model: TaskModel, facts: RegressionFacts, job: Job
) -> Evaluation:
    """Evaluate a model and write ``metrics.json``, ``metrics.csv``, ``report.html``, ``figures/``.

    Each finished case is kept until the results are written, even if the process is stopped or
    killed, and the same request goes on from there.

    Raises:
        DataError: if there is no data set, or every case failed.
        ConfigError: if a setting does not fit.
        OutputError: if the results cannot be written.
        SchedulerError: if no worker can be used.
        Interrupted: if the job was cancelled.
    """
    settings = evaluation_settings(request, model, facts)
    source = open_pairs(data_for(request, model, job))
    side = choose_pairs(request.split, model, facts, source)
    chosen, notes = side.items, side.notes
    logger.info("%s", side.reason)
    predictor = RealPredictor(model, facts, settings.prediction)
    out = request.out
    count = min(request.workers, len(chosen))
    with open_scheduler(count, request.scheduler, work_folder(out)) as spread:
        if request.fresh:
            forget(out, METRICS_FILE)
        shared = SharedRegression(predictor, work_folder(out) if spread.separate else None)
        items = [EvaluatingPair(pair, shared, out) for pair in chosen]
        placed = [item.absolute() for item in items] if spread.remote else items
        outcomes = spread.run_each(measure_pair, placed, lambda item: item.files, job)
        found, failed = gathered(outcomes, [pair.id for pair in chosen], job, "evaluating")
    if not found:
        finish(out)
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
        "settings": {
            **settings.model_dump(mode="json"),
            **engine_settings(model, settings.prediction.precision),
        },
        "notes": [side.reason, *notes],
        "failed": [{"id": name, "error": text} for name, text in failed.items()],
    }  # fmt: skip
    figures = write_figures(tree, found, {p.id: p for p in chosen}, predictor, out / "figures")
    write_real_report(tree, figures, model.spec, out / "report.html")
    write_results(tree, _rows(tree), out)
    finish(out)
    return Evaluation(out, tree, failed)


def evaluation_settings(
    request: EvaluateRequest, model: TaskModel, facts: RegressionFacts
) -> EvaluateRegressionSettings:
    """Return the settings of the run that trained the model, changed by overrides.

    Raises:
        ConfigError: if a setting does not fit.
    """
    tree: Tree = {"prediction": facts.prediction.model_dump()}
    stored = model.folder.parent / "settings.yaml"
    if stored.is_file():
        tree["evaluation"] = read_settings(stored).evaluation.model_dump()
    tree = with_overrides(tree, request.overrides)
    return validate(EvaluateRegressionSettings, tree, source="--set")


def data_for(request: EvaluateRequest, model: TaskModel, job: Job) -> Path:
    """Return the data set that is given, or else the made-up one that the model learned from."""
    options = validate(RegressionOptions, model.spec.options, source="options of the model")
    run = model.folder.parent
    place = run if request.data is None and (run / SPLIT).is_file() else request.out
    return data_of(request.data, options, place, job)


def choose_pairs(
    name: str, model: TaskModel, facts: RegressionFacts, pairs: PairSet
) -> ChosenSide[Pair]:
    """Choose the pairs of one side of the split of the run that trained the model.

    Raises:
        DataError: if the side is unknown, or none of its pairs is in the data set.
    """
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
