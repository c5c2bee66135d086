"""Measure a model on labelled cases, on their own grid."""

from __future__ import annotations

import csv
import logging
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median
from typing import Any

from medseg_nca.config import LabelTable, Settings
from medseg_nca.config.data import DataSettings
from medseg_nca.config.loading import parse_override, read_settings, validate
from medseg_nca.config.presets import merge
from medseg_nca.config.training import EvaluationSettings, PredictionSettings
from medseg_nca.datasets.base import Case
from medseg_nca.errors import DataError, PartialFailure
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.atomic import atomic_file, write_json
from medseg_nca.metrics.definitions import MERGED, METRICS
from medseg_nca.metrics.summary import CaseResult, summarise, table_rows
from medseg_nca.pipelines.evaluation_report import draw, write_evaluation_report
from medseg_nca.pipelines.measuring import Bench
from medseg_nca.pipelines.selection import (
    LabelMatch,
    Selection,
    Source,
    match_labels,
    open_source,
    select_cases,
)
from medseg_nca.tracking.provenance import git_commit, package_versions
from medseg_nca.tracking.run import RunTracker, read_link, store_with_credentials
from medseg_nca.tracking.store import connect

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
PUBLISHED = ("dice", "hd95", "nsd")
Progress = Callable[[Sequence[Case]], Iterable[Case]]
Tree = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        out: folder of the results.
        tree: what ``metrics.json`` holds.
        failed: what went wrong, by case; the other cases are in the results.
    """

    out: Path
    tree: Tree
    failed: Mapping[str, str]

    def raise_for_failures(self) -> None:
        """Make the failures known to a caller that has used the results.

        Raises:
            PartialFailure: if a case failed; it names the cases.
        """
        if self.failed:
            total = len(self.failed) + len(self.tree["cases"])
            details = "; ".join(f"{name}: {text}" for name, text in list(self.failed.items())[:5])
            raise PartialFailure(
                f"{len(self.failed)} of {total} cases failed: {details}",
                hint="Mend or remove these files (`medseg-nca data check`) and evaluate again.",
            )


class EvaluateSettings(Settings):
    """What ``medseg-nca evaluate --set`` can change."""

    data: DataSettings = DataSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    prediction: PredictionSettings = PredictionSettings()


def resolve_settings(model: LoadedModel, overrides: Sequence[str] = ()) -> EvaluateSettings:
    """The settings of the run that trained the model, with overrides laid over them.

    Args:
        model: prediction settings are those it carries; a run's settings.yaml beside it gives
            those of the evaluation.
        overrides: such as ``evaluation.nsd_tolerance=2``.

    Raises:
        ConfigError: for an unknown key or a value that does not fit.
    """
    stored = model.folder.parent / "settings.yaml"
    tree: Tree = {"prediction": model.spec.prediction.model_dump()}
    if stored.is_file():
        tree["evaluation"] = read_settings(stored).evaluation.model_dump()
    for override in overrides:
        tree = merge(tree, parse_override(override))
    return validate(EvaluateSettings, tree, source="--set")


def run(
    model: LoadedModel,
    data: Path,
    out: Path,
    *,
    split: str = "test",
    settings: EvaluationSettings | None = None,
    prediction: PredictionSettings | None = None,
    format: str = "auto",
    labels: LabelTable | None = None,
    save_predictions: bool = False,
    progress: Progress = lambda cases: cases,
) -> Evaluation:
    """Evaluate a model and write ``metrics.json``, ``metrics.csv``, ``report.html``, ``figures/``.

    Args:
        model: on the device that is to compute.
        data: a data set, raw or prepared; of a prepared one the source files are evaluated.
        out: folder of the results, created if need be; other files in it stay.
        split: "test", "val", "train" or "all", of the run that trained the model. A data set that
            the run never split is evaluated whole.
        settings: tolerance, resamples, confidence.
        prediction: replaces the prediction settings that the model carries.
        format: of a raw data set.
        labels: replaces the data set's own label table.
        save_predictions: write the label maps to ``out/predictions``.
        progress: wraps the list of cases, to show how far it is.

    Returns:
        The results, with the cases that failed.

    Raises:
        DataError: if there is no data set, its labels do not fit the model's, or every case failed.
        OutputError: if the results cannot be written.
    """
    settings = settings or EvaluationSettings()
    source = open_source(data, format, labels)
    match = match_labels(model.spec.labels, source.labels)
    selection = select_cases(source, model, split)
    for note in (selection.reason, *selection.notes, *match.notes):
        logger.info("%s", note)
    predictor = Predictor(model, prediction)
    bench = Bench(predictor, match, settings, out / "predictions" if save_predictions else None)
    for case in progress(selection.cases):
        bench.measure(case)
    if not bench.results:
        reason = next(iter(bench.failed.values()))
        raise DataError(f"Every case failed ({len(bench.failed)}). The first: {reason}")
    summary = summarise(bench.results, settings)
    tree = {
        **_provenance(predictor, source, selection, match, settings),
        **summary,
        "notes": [*selection.notes, *match.notes, *_missed(summary)],
        "failed": [{"id": name, "error": text} for name, text in bench.failed.items()],
        "seconds": _seconds(bench.results),
    }
    _write(tree, bench, out, model)
    return Evaluation(out, tree, bench.failed)


def _provenance(
    predictor: Predictor, source: Source, selection: Selection, match: LabelMatch,
    settings: EvaluationSettings,
) -> Tree:  # fmt: skip
    spec = predictor.spec
    return {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {
            "name": spec.name,
            "architecture": spec.model.name,
            "parameters": sum(p.numel() for p in predictor.model.parameters()),
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
            "name": selection.part,
            "reason": selection.reason,
            "cases": len(selection.cases),
        },
        "settings": {
            "evaluation": settings.model_dump(mode="json"),
            "prediction": predictor.settings.model_dump(mode="json"),
        },
        "device": str(predictor.loaded.device),
        "git_commit": git_commit(),
        "versions": {"python": platform.python_version(), **package_versions()},
    }


def _missed(summary: Tree) -> list[str]:
    """Say where a mean contains distances that stand for a label that is not there."""
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


def _write(tree: Tree, bench: Bench, out: Path, model: LoadedModel) -> None:
    """Figures and report first: where there is a ``metrics.json``, all the rest is there too."""
    examples = [bench.example(name, word) for word, name in _ranked(bench.results).items()]
    figures = draw(tree, examples, out / "figures", model.spec.labels, bench.match.truth)
    write_evaluation_report(tree, figures, model.spec, out / "report.html")
    with (
        atomic_file(out / "metrics.csv") as path,
        path.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, ["case", "label", *METRICS, "seconds"])
        writer.writeheader()
        writer.writerows(table_rows(bench.results))
    write_json(out / "metrics.json", tree)


def _ranked(results: Sequence[CaseResult]) -> dict[str, str]:
    """The best, the median and the worst case by mean Dice; fewer when there are fewer."""
    scored = [(r.mean_dice, r.id) for r in results if r.mean_dice is not None]
    scored.sort(reverse=True)
    if len(scored) < 3:
        return {word: name for word, (_, name) in zip(("best", "worst"), scored, strict=False)}
    return {"best": scored[0][1], "median": scored[len(scored) // 2][1], "worst": scored[-1][1]}


def publish(evaluation: Evaluation, run_folder: Path, tracking_uri: str | None = None) -> None:
    """Log an evaluation to the MLflow run that trained the model, where there is one.

    A store that is gone or does not answer is a warning: the results are on disk.

    Args:
        evaluation: finished.
        run_folder: its ``mlflow.json`` names the run and its store.
        tracking_uri: the same store with a password, which the link does not hold; the environment
            may name it too.
    """
    link = read_link(run_folder)
    if link is None:
        return
    tree = evaluation.tree
    word = tree["split"]["name"]
    numbers = {f"{word}_mean_dice": tree["mean_dice"]}
    for name, part in {**tree["labels"], MERGED: tree[MERGED]}.items():
        numbers |= {f"{word}_{metric}_{name}": part[metric]["mean"] for metric in PUBLISHED}
    try:
        uri = store_with_credentials(run_folder, tracking_uri)
        if uri is None:
            logger.warning("The evaluation is not logged to MLflow: its store is gone.")
            return
        tracker = RunTracker(connect(uri), link["run_id"], run_folder)
    except Exception as error:  # whatever a store throws: the evaluation is done
        logger.warning("The evaluation is not logged to MLflow: %s", error)
        return
    tracker.log_metrics({name: value for name, value in numbers.items() if value is not None})
    for name in ("metrics.json", "metrics.csv", "report.html", "figures"):
        tracker.log_artifact(evaluation.out / name, f"evaluation_{word}")
