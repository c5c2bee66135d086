"""Segment files with a trained model, in one process or several.

:mod:`medseg_nca.cases.prediction_inputs` makes cases of the inputs, and
:mod:`medseg_nca.cases.predict_case` predicts and writes one case. This module runs all cases and
lists the results in ``predictions.json``.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg_nca.cases.predict_case import (
    OutputSettings,
    Predicting,
    PredictionRecord,
    predict_case,
)
from medseg_nca.cases.prediction_inputs import (
    CaseInput,
    find_cases,
    refuse_formats,
    refuse_overwriting,
)
from medseg_nca.cases.training_notes import tell_of_training
from medseg_nca.config import PreprocessPlan
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import MemoryBudgetError, PartialFailure
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.atomic import remove_leftovers, write_json
from medseg_nca.io.formats import in_short
from medseg_nca.job import Job
from medseg_nca.work.case_records import finish, forget, read_record, set_aside, work_folder
from medseg_nca.work.scheduler import (
    KILLED,
    Outcome,
    Scheduler,
    counted,
    open_scheduler,
)
from medseg_nca.work.shared_model import SharedModel

logger = logging.getLogger(__name__)

PREDICTIONS = "predictions.json"
# Name of the list of an earlier run while its results are being replaced.
_EARLIER = "earlier.json"


@dataclass(frozen=True)
class PredictSegmentation:
    """What a prediction of a segmentation is asked to do.

    Attributes:
        model: the model.
        inputs: image files, folders of images, and folders with DICOM series at any depth.
        out: folder of the results. The label map is ``<name>.<format of the input>`` (for DICOM a
            DICOM SEG); ``<name>_probabilities`` and ``<name>_uncertainty`` are written beside it
            if the settings ask for them.
        settings: prediction settings that replace those of the model; None keeps them.
        output: formats of the label map.
        select: which DICOM volumes, for example ``"Modality=MR,SeriesDescription~T1"``; None
            takes all.
        workers: number of processes; a single one uses all cores.
        scheduler: address of a Dask scheduler, whose workers must see the inputs and ``out``.
        fresh: whether cases that were predicted before are predicted again.
    """

    model: LoadedModel
    inputs: Sequence[Path]
    out: Path
    settings: PredictionSettings | None = None
    output: OutputSettings = field(default_factory=OutputSettings)
    select: str | None = None
    workers: int = 1
    scheduler: str | None = None
    fresh: bool = False


def run(request: PredictSegmentation, job: Job | None = None) -> list[PredictionRecord]:
    """Write a label map on the grid of each input, and ``predictions.json``.

    Each finished case is kept, even if the process is stopped or killed, and the same request goes
    on from there. A case is predicted again only if its files, the settings or the model changed,
    or a result is missing.

    Args:
        request: what to predict.
        job: gets the progress, in the phase "predicting".

    Raises:
        ConfigError: if the settings do not fit the model.
        DataError: if there is nothing to predict.
        MemoryBudgetError: if the only input needs more memory than the settings allow.
        OutputError: if a result would overwrite an input, or cannot be written.
        SchedulerError: if no worker can be used.
        Interrupted: if the job was cancelled.
        PartialFailure: after the last case, if some cases failed; the results of the others are
            written.
    """
    job = job or Job()
    out = request.out
    predictor = Predictor(request.model, request.settings)
    cases = _find(request, predictor.spec.plan)
    with open_scheduler(
        min(request.workers, len(cases)), request.scheduler, work_folder(out)
    ) as spread:
        if request.fresh:
            forget(out, PREDICTIONS)
        remove_leftovers(out)
        earlier = _take_earlier(out)
        model = SharedModel(predictor, work_folder(out) if spread.separate else None)
        items = (
            _item(Predicting(case, out, model, request.output, earlier.get(case.name)), spread)
            for case in cases
        )
        outcomes = spread.run_each(predict_case, items, lambda item: item.case.files, job)
        found: dict[int, Outcome[PredictionRecord]] = {}
        for outcome in counted(outcomes, job, "predicting", len(cases)):
            found[outcome.index] = outcome
            if outcome.error:
                logger.error("%s", _reason(cases[outcome.index], outcome))
    results = [_result(case, found[index], out) for index, case in enumerate(cases)]
    _write_list(results, predictor, out)
    finish(out)
    if len(cases) == 1 and found[0].kind == MemoryBudgetError.__name__:
        raise MemoryBudgetError(str(found[0].error))
    called = _called(results)
    tell_of_training(
        {called[r.name]: r.training for r in results if r.error is None}, predictor.spec.plan
    )
    _tell_of_empty(results)
    _raise_for_failures(results, out)
    return results


def _find(request: PredictSegmentation, plan: PreprocessPlan) -> list[CaseInput]:
    """Return the cases, after checks of what would be wrong with the request as a whole."""
    earlier = _earlier_results(request.out)
    cases = find_cases(request.inputs, plan, request.select, earlier)
    cases = refuse_formats(cases, request.output.formats, plan.dims)
    refuse_overwriting(cases, request.out, request.output.formats)
    return cases


def _item(work: Predicting, spread: Scheduler) -> Predicting:
    if not spread.remote:
        return work
    return replace(work, case=work.case.absolute(), out=work.out.absolute())


def _earlier_results(out: Path) -> set[Path]:
    """Return the files that earlier runs wrote; they are no inputs, even if ``out`` is one."""
    lists = (out / PREDICTIONS, work_folder(out) / _EARLIER)
    listed = [record for file in lists for record in _listed(file, out)]
    unlisted = [
        PredictionRecord.from_tree(read_record(file), out)
        for file in work_folder(out).glob("*.json")
    ]
    return {
        (out / file.name).resolve()
        for record in (*listed, *unlisted)
        for file in (record.files.values() if record else ())
        if file.is_whole(out)
    }


def _take_earlier(out: Path) -> dict[str, PredictionRecord]:
    """Return the records of an earlier run by case.

    Its list is moved away, because it may be wrong until this run has ended.
    """
    hidden = work_folder(out) / _EARLIER
    set_aside(out / PREDICTIONS, hidden)
    return {record.name: record for record in _listed(hidden, out)}


def _listed(file: Path, out: Path) -> list[PredictionRecord]:
    """Return the records in a list of results; none if the list is missing or damaged."""
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))["predictions"]
        records = [PredictionRecord.from_tree(entry, out) for entry in entries]
        return [record for record in records if record is not None]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _result(case: CaseInput, outcome: Outcome[PredictionRecord], out: Path) -> PredictionRecord:
    """Return the record of a case, with paths as the caller gave them."""
    if outcome.result is None:
        return PredictionRecord(case.name, case.source, out, error=_reason(case, outcome))
    return replace(outcome.result, source=case.source, out=out)


def _reason(case: CaseInput, outcome: Outcome[PredictionRecord]) -> str:
    """Return what went wrong; the name of the file is added to errors that do not contain it."""
    if outcome.cause:
        return f"{case.source}: failed with an {outcome.error}"
    return f"{case.source}: {KILLED}." if outcome.error == KILLED else str(outcome.error)


def _write_list(results: Sequence[PredictionRecord], predictor: Predictor, out: Path) -> None:
    spec = predictor.spec
    write_json(
        out / PREDICTIONS,
        {
            "model": spec.name,
            "weights_sha256": spec.weights_sha256,
            "labels": {label.name: label.written for label in spec.labels.labels},
            "settings": {
                **predictor.settings.model_dump(mode="json"),
                "engine": predictor.loaded.engine,
            },
            "predictions": [result.to_dict() for result in results],
        },
    )


def _called(results: Sequence[PredictionRecord]) -> dict[str, str]:
    """Return what messages call each result: its file's name if unique, else its own name."""
    counts = Counter(result.source.name for result in results)
    return {r.name: r.source.name if counts[r.source.name] == 1 else r.name for r in results}


def _tell_of_empty(results: Sequence[PredictionRecord]) -> None:
    """Warn of images without any label, which the model was perhaps not made for."""
    called = _called(results)
    empty = [called[result.name] for result in results if result.empty]
    if empty:
        logger.warning(
            "No label was found in %d of %d images (%s). Are they of the kind that the model was "
            "trained on (modality, part of the body, unit of the spacing)?",
            len(empty), sum(result.error is None for result in results), in_short(empty),
        )  # fmt: skip


def _raise_for_failures(results: Sequence[PredictionRecord], out: Path) -> None:
    failed = {result.name: result.error for result in results if result.error}
    if failed:
        raise PartialFailure(
            f"{len(failed)} of {len(results)} inputs failed; {out / PREDICTIONS} says why.",
            hint="Correct or leave out these inputs and run the same command again; finished "
            "inputs are not predicted again.",
            failures=failed,
        )
