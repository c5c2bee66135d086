"""Segment files with a trained model, in one process or several.

:mod:`medseg_nca.cases.prediction_inputs` makes cases of the inputs,
:mod:`medseg_nca.cases.predict_case` segments and writes one case, and
:mod:`medseg_nca.cases.predict_cases` runs all cases and lists the results in ``predictions.json``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg_nca.cases.predict_case import (
    OutputSettings,
    Predicting,
    PredictionRecord,
)
from medseg_nca.cases.predict_cases import (
    PREDICTIONS,
    called,
    earlier_results,
    predict_cases,
    raise_for_failures,
)
from medseg_nca.cases.prediction_inputs import (
    CaseInput,
    find_cases,
    refuse_formats,
    refuse_overwriting,
)
from medseg_nca.cases.quality_notes import tell_of_quality
from medseg_nca.config import PreprocessPlan
from medseg_nca.config.training import PredictionSettings
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.engine_choice import engine_settings
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.formats import in_short
from medseg_nca.job import Job
from medseg_nca.work.shared_model import SharedModel

logger = logging.getLogger(__name__)


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

    Finished cases are kept, as :func:`medseg_nca.cases.predict_cases.predict_cases` says.

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
    predictor = Predictor(request.model, request.settings)
    spec, output = predictor.spec, request.output
    results = predict_cases(
        _find(request, spec.plan),
        request,
        PredictionRecord,
        lambda place: SharedModel(predictor, place),
        lambda case, model: Predicting(case, request.out, model, output),
        {
            "model": spec.name,
            "weights_sha256": spec.weights_sha256,
            "labels": {label.name: label.written for label in spec.labels.labels},
            "settings": {
                **predictor.settings.model_dump(mode="json"),
                **engine_settings(predictor.loaded, predictor.settings.precision),
            },
        },
        spec.plan,
        job or Job(),
    )
    _tell_of_empty(results)
    names = called(results)
    tell_of_quality(
        {names[r.name]: r.estimate for r in results if r.error is None}, request.out / PREDICTIONS
    )
    raise_for_failures(results, request.out)
    return results


def _find(request: PredictSegmentation, plan: PreprocessPlan) -> list[CaseInput]:
    """Return the cases, after checks of what would be wrong with the request as a whole."""
    out, formats = request.out, request.output.formats
    cases = find_cases(request.inputs, plan, request.select, earlier_results(out, PredictionRecord))
    cases = refuse_formats(cases, formats, plan.dims)
    refuse_overwriting(cases, lambda case: case.targets(out, formats).values())
    return cases


def _tell_of_empty(results: Sequence[PredictionRecord]) -> None:
    """Warn of images without any label, which the model was perhaps not made for."""
    names = called(results)
    empty = [names[result.name] for result in results if result.empty]
    if empty:
        logger.warning(
            "No label was found in %d of %d images (%s). Are they of the kind that the model was "
            "trained on (modality, part of the body, unit of the spacing)?",
            len(empty), sum(result.error is None for result in results), in_short(empty),
        )  # fmt: skip
