"""Evaluate a segmentation model on labelled cases, on the grid of each case."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median
from typing import Any

from medseg_nca.cases.evaluate_case import (
    PREDICTIONS,
    Evaluating,
    EvaluationRecord,
    kept_label_map,
    read_case,
)
from medseg_nca.cases.evaluation_inputs import (
    EvaluatedData,
    LabelMatch,
    match_labels,
    notes_on_data,
    open_source,
    select_cases,
)
from medseg_nca.cases.quality_notes import tell_of_verdicts
from medseg_nca.cases.training_notes import tell_of_training
from medseg_nca.config import LabelTable, Settings
from medseg_nca.config.data import DataSettings
from medseg_nca.config.loading import read_settings, validate, with_overrides
from medseg_nca.config.training import EvaluationSettings, PredictionSettings
from medseg_nca.datasets.base import Case
from medseg_nca.datasets.hashing import remember_hash
from medseg_nca.datasets.sides import ChosenSide
from medseg_nca.errors import DataError
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.engine_choice import engine_settings
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.atomic import remove_leftovers
from medseg_nca.job import Job
from medseg_nca.metrics.summary import CaseResult, summarise
from medseg_nca.tasks.base import Evaluation
from medseg_nca.tasks.segmentation.evaluation_cases import evaluate_cases
from medseg_nca.tasks.segmentation.evaluation_records import (
    LIST,
    add_records,
    read_metrics,
    write_metrics,
)
from medseg_nca.tasks.segmentation.evaluation_report import Example, draw, write_evaluation_report
from medseg_nca.tracking.provenance import git_commit, package_versions
from medseg_nca.work.case_records import finish, forget, work_folder
from medseg_nca.work.scheduler import open_scheduler
from medseg_nca.work.shared_model import SharedModel

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
Tree = dict[str, Any]


class EvaluateSettings(Settings):
    """The settings that ``medseg-nca evaluate --set`` can change."""

    data: DataSettings = DataSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    prediction: PredictionSettings = PredictionSettings()


def resolve_settings(model: LoadedModel, overrides: Sequence[str] = ()) -> EvaluateSettings:
    """Return the settings of the run that trained the model, changed by overrides.

    Args:
        model: the model. It carries its prediction settings; the evaluation settings are read from
            the run's ``settings.yaml``, if the model lies in a run folder.
        overrides: changes, for example ``evaluation.nsd_tolerance=2``.

    Raises:
        ConfigError: for an unknown key or a value that does not fit.
    """
    stored = model.folder.parent / "settings.yaml"
    tree: Tree = {"prediction": model.spec.prediction.model_dump()}
    if stored.is_file():
        tree["evaluation"] = read_settings(stored).evaluation.model_dump()
    return validate(EvaluateSettings, with_overrides(tree, overrides), source="--set")


@dataclass(frozen=True)
class EvaluateSegmentation:
    """What an evaluation of a segmentation is asked to do.

    Attributes:
        model: the model, on the device that is to compute.
        data: a data set, raw or prepared. For a prepared one the source files are evaluated.
        out: folder of the results, created if it does not exist; other files in it stay.
        split: "test", "val", "train" or "all", of the run that trained the model. A data set that
            the run never split is evaluated whole.
        settings: tolerance (mm) of the surface metric, resamples and confidence of intervals.
        prediction: prediction settings that replace those of the model; None keeps them.
        format: layout of a raw data set; "auto" finds it out.
        labels: label table that replaces the data set's own; None keeps it.
        save_predictions: whether the label maps are written to ``out/predictions``.
        workers: number of processes; a single one uses all cores.
        scheduler: address of a Dask scheduler, whose workers must see ``data`` and ``out``.
        fresh: whether cases that were evaluated before are evaluated again.
        figures: whether the report has figures; drawing them can take longer than measuring.
    """

    model: LoadedModel
    data: Path
    out: Path
    split: str = "test"
    settings: EvaluationSettings = field(default_factory=EvaluationSettings)
    prediction: PredictionSettings | None = None
    format: str = "auto"
    labels: LabelTable | None = None
    save_predictions: bool = False
    workers: int = 1
    scheduler: str | None = None
    fresh: bool = False
    figures: bool = True


def run(request: EvaluateSegmentation, job: Job | None = None) -> Evaluation:
    """Evaluate a model and write ``metrics.json``, ``metrics.csv``, ``report.html``, ``figures/``.

    Each finished case is kept, even if the process is stopped or killed, and the same request goes
    on from there. A case is evaluated again only if the model, its files or its settings changed.

    Args:
        request: what to evaluate.
        job: gets the progress, in the phase "evaluating".

    Returns:
        The results, with the cases that failed.

    Raises:
        DataError: if there is no data set, its labels do not fit the model's, or every case failed.
        OutputError: if the results cannot be written.
        SchedulerError: if no worker can be used.
        Interrupted: if the job was cancelled.
    """
    model, data, out, settings = request.model, request.data, request.out, request.settings
    source = open_source(data, request.format, request.labels)
    match = match_labels(model.spec.labels, source.labels)
    selection = select_cases(source, model, request.split)
    for note in (selection.reason, *selection.notes, *match.notes):
        logger.info("%s", note)
    predictor = Predictor(model, request.prediction)
    count = min(request.workers, len(selection.items))
    with open_scheduler(count, request.scheduler, work_folder(out)) as spread:
        _tidy(out, request.fresh)
        shared = SharedModel(predictor, work_folder(out) if spread.separate else None)
        earlier = read_metrics(out)
        items = [
            Evaluating(
                case, out, shared, match, settings.nsd_tolerance, request.save_predictions,
                earlier.get(case.id),
            )
            for case in selection.items
        ]  # fmt: skip
        measured, failed = evaluate_cases(items, spread, job or Job())
    if not measured:
        finish(out)
        raise DataError(
            f"{data}: all {len(failed)} cases failed, each as said above.",
            hint=f"Look at the data set: medseg-nca data check {data}",
        )
    notes = (
        *_notes_on_data(selection, source, model, measured), *selection.notes, *match.notes,
        *tell_of_training(
            {name: case.training for name, case in measured.items()}, predictor.spec.plan
        ),
    )  # fmt: skip
    tell_of_verdicts([case.estimate for case in measured.values()])
    provenance = _provenance(predictor, source, selection, match, settings)
    tree = {**provenance, **_results(measured, failed, notes, settings)}
    _write(tree, measured, {item.case.id: item for item in items}, request)
    finish(out)
    return Evaluation(out, tree, failed)


def _tidy(out: Path, fresh: bool) -> None:
    """Remove files that killed processes left half-written; with ``fresh`` also all records."""
    if fresh:
        forget(out, LIST)
    for folder in (out, out / PREDICTIONS):
        remove_leftovers(folder)


def _notes_on_data(
    selection: ChosenSide[Case],
    source: EvaluatedData,
    model: LoadedModel,
    measured: Mapping[str, EvaluationRecord],
) -> tuple[str, ...]:
    """Return notes on how the data differ from those of the training.

    Only files that no worker has read are read here.
    """
    for found in measured.values():
        for path, digest in found.hashes.items():
            remember_hash(Path(path), digest)
    notes = notes_on_data(selection, source, model)
    for note in notes:
        logger.info("%s", note)
    return notes


def _provenance(
    predictor: Predictor, source: EvaluatedData, selection: ChosenSide[Case], match: LabelMatch,
    settings: EvaluationSettings,
) -> Tree:  # fmt: skip
    spec = predictor.spec
    return {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": spec.task,
        "model": {
            "name": spec.name,
            "architecture": spec.model.name,
            "parameters": predictor.loaded.parameters,
            "members": len(predictor.loaded.members),
            "weights_sha256": spec.weights_sha256,
            "training_data": spec.training_data,
            "training_data_hash": spec.training_data_hash,
        },
        "data": {
            "name": source.name,
            "hash": source.hash,
            "labels": {
                own.name: list(theirs.values)
                for own, theirs in zip(spec.labels.labels, match.truth.labels, strict=True)
            },
        },
        "split": {
            "name": selection.side,
            "reason": selection.reason,
            "cases": len(selection.items),
        },
        "settings": {
            "evaluation": settings.model_dump(mode="json"),
            "prediction": predictor.settings.model_dump(mode="json"),
            **engine_settings(predictor.loaded, predictor.settings.precision),
        },
        "device": str(predictor.loaded.device),
        "git_commit": git_commit(),
        "versions": {"python": platform.python_version(), **package_versions()},
    }


def _results(
    measured: Mapping[str, EvaluationRecord],
    failed: Mapping[str, str],
    notes: Sequence[str],
    settings: EvaluationSettings,
) -> Tree:
    results = _case_results(measured)
    summary = summarise(results, settings)
    tree = {
        **summary,
        "score": {"name": "Dice", "value": summary["mean_dice"], "better": "higher"},
        "notes": [*notes, *_missed(summary)],
        "failed": [{"id": name, "error": text} for name, text in failed.items()],
        "seconds": _seconds(results),
    }
    add_records(tree, measured)
    return tree


def _case_results(measured: Mapping[str, EvaluationRecord]) -> list[CaseResult]:
    return [found.result(name) for name, found in measured.items()]


def _missed(summary: Tree) -> list[str]:
    """Return a note for each label whose mean distance includes cases without the label."""
    notes = []
    for name, part in summary["labels"].items():
        missed, invented = (part["presence"][key] for key in ("truth_only", "prediction_only"))
        if missed or invented:
            notes.append(
                f"{name}: missed in {missed} and predicted without being there in {invented} of "
                "the cases; there Dice counts as 0 and a distance as the image's diagonal."
            )
    return notes


def _seconds(results: Sequence[CaseResult]) -> Tree:
    seconds = [result.facts["seconds"] for result in results]
    return {
        "mean": round(mean(seconds), 4),
        "median": round(median(seconds), 4),
        "total": round(sum(seconds), 4),
    }


def _write(
    tree: Tree,
    measured: Mapping[str, EvaluationRecord],
    items: Mapping[str, Evaluating],
    request: EvaluateSegmentation,
) -> None:
    """Write the results, ``metrics.json`` last: where it exists, all other results exist too."""
    results, out = _case_results(measured), request.out
    some = next(iter(items.values()))
    spec = some.model.predictor.spec
    figures: dict[Path, str] = {}
    if request.figures:
        ranked = _ranked(results).items()
        examples = [_example(items[name], word, tree) for word, name in ranked]
        figures = draw(tree, examples, out / "figures", spec.labels, some.match.truth)
    write_evaluation_report(tree, figures, spec, out / "report.html")
    write_metrics(tree, results, out)


def _example(item: Evaluating, word: str, tree: Tree) -> Example:
    """Read a case with image, truth and prediction, to draw it."""
    name = item.case.id
    image, truth = read_case(item.case, item.match)
    found = kept_label_map(item)
    if found is None:
        found = item.model.predictor.predict(image).label_map.array[0]
    score = next(case["mean_dice"] for case in tree["cases"] if case["id"] == name)
    return Example(name, word, score or 0.0, image, truth.array[0], found)


def _ranked(results: Sequence[CaseResult]) -> dict[str, str]:
    """Return the best, the median and the worst case by mean Dice, or fewer if there are fewer."""
    scored = [(r.mean_dice, r.id) for r in results if r.mean_dice is not None]
    scored.sort(reverse=True)
    if len(scored) < 3:
        return {word: name for word, (_, name) in zip(("best", "worst"), scored, strict=False)}
    return {"best": scored[0][1], "median": scored[len(scored) // 2][1], "worst": scored[-1][1]}
