"""Fit the estimate that a model carries, on labelled cases that did not train it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from medseg_nca.cases.evaluation_inputs import (
    LabelMatch,
    match_labels,
    open_source,
    select_cases,
)
from medseg_nca.config.prediction_options import prediction_settings
from medseg_nca.config.trust import TrustSection, TrustSettings
from medseg_nca.datasets.truth import CaseFiles, read_labelled
from medseg_nca.errors import DataError, NonFiniteStateError
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.estimates import answering
from medseg_nca.inference.predictor import Predictor
from medseg_nca.inference.requests import TrustRequest
from medseg_nca.inference.spec import ModelSpec
from medseg_nca.job import Job
from medseg_nca.metrics.overlap import Counts, label_masks
from medseg_nca.trust.corruptions import CORRUPTIONS, STRENGTHS, corrupted, fault_seed
from medseg_nca.trust.fit import TrustRow, fit_section

FITTING = "fitting the estimate"

logger = logging.getLogger(__name__)


class PatientCase(CaseFiles, Protocol):
    """A labelled case that may name its patient."""

    @property
    def patient(self) -> str | None:
        """Cases of one patient stay on one side of a fold; None means a patient of its own."""


@dataclass(frozen=True)
class Variant:
    """A case with a fault, or as it is.

    Attributes:
        case: index of the case.
        kind: name of the corruption; None for the image as it is.
        strength: of the corruption, 0 without one.
    """

    case: int
    kind: str | None = None
    strength: int = 0


def fit_trust(
    loaded: LoadedModel,
    cases: Sequence[PatientCase],
    settings: TrustSettings,
    *,
    seed: int = 0,
    minutes: float | None = None,
    match: LabelMatch | None = None,
    job: Job | None = None,
) -> TrustSection | None:
    """Predict cases as they are and with artificial faults, and fit how good the answers are.

    Args:
        loaded: the model as it will be used.
        cases: labelled cases that did not train it.
        settings: how many cases, which faults, which confidence.
        seed: of the fit, and of the order in which faults are left out.
        match: the labels of the data for those of the model; None if they are the same.
        minutes: when these have passed, the faults that are left are left out; None takes all.
        job: asked before every image whether to go on; gets the progress.

    Returns:
        The section; None, with a word in the log, if there are too few cases.

    Raises:
        Interrupted: if the job was cancelled.
        ConfigError: if there is no such corruption.
    """
    job = job or Job()
    named = settings.corruptions
    kinds = tuple(dict(CORRUPTIONS.usable()) if named is None else named)
    for kind in kinds:
        CORRUPTIONS.get(kind)  # An unknown name is told before the work.
    chosen = cases[: settings.cases]
    started = time.monotonic()
    predictor = Predictor(
        loaded, loaded.spec.prediction.changed(unlike="warn"), keeps_budget=False, measures=True
    )
    variants = list(_variants(len(chosen), kinds, seed))
    match = match or LabelMatch(loaded.spec.labels, loaded.spec.labels.known_values)
    logger.info("Fitting the estimate of quality: %d images to predict.", len(variants))
    rows, done = _collected(predictor, chosen, variants, match, minutes, job)
    used = {variant.kind for variant in variants[:done] if variant.kind is not None}
    section = fit_section(
        rows, confidence=settings.confidence, corruptions=sorted(used),
        prediction=answering(predictor.settings), seed=seed,
    )  # fmt: skip
    _tell(section, done, time.monotonic() - started)
    return section


def fit_request(loaded: LoadedModel, request: TrustRequest, job: Job) -> ModelSpec:
    """Implement :meth:`medseg_nca.tasks.base.Task.fit_trust`."""
    spec = loaded.spec
    prediction = prediction_settings(spec.prediction, {}, request.overrides)
    source = open_source(request.data)
    match = match_labels(spec.labels, source.labels)
    selection = select_cases(source, loaded, request.split)
    for note in (selection.reason, *selection.notes, *match.notes):
        logger.info("%s", note)
    if selection.side in ("train", "all"):
        logger.warning(
            "The model was trained on cases of this side: of new images it will think too well."
        )
    model = replace(loaded, spec=spec.changed(prediction=prediction, trust=None))
    section = fit_trust(
        model, selection.items, request.settings, seed=spec.seed, minutes=request.minutes,
        match=match, job=job,
    )  # fmt: skip
    if section is None:
        raise DataError(
            f"{request.data}: its {len(selection.items)} cases ({request.split}) are too few to "
            "estimate answers by.",
            hint="Two patients or more are needed, 20 or more for narrow intervals; each label "
            "must be found in one of them. --split names another part of the data.",
        )
    return spec.changed(trust=section)


def _variants(cases: int, kinds: Sequence[str], seed: int) -> Iterator[Variant]:
    """Yield all images as they are, then with faults in random order, so that any part is fair."""
    yield from map(Variant, range(cases))
    faulty = [
        Variant(case, kind, strength)
        for case in range(cases)
        for kind in kinds
        for strength in STRENGTHS
    ]
    order = np.random.default_rng(seed).permutation(len(faulty))
    yield from (faulty[index] for index in order)


def _collected(
    predictor: Predictor, cases: Sequence[PatientCase], variants: Sequence[Variant],
    match: LabelMatch, minutes: float | None, job: Job,
) -> tuple[list[TrustRow], int]:  # fmt: skip
    """Return the rows of all images, and how many images there was time for.

    The limit is for images with faults alone: without any, nothing would be learned.
    """
    rows: list[TrustRow] = []
    begun = time.monotonic()
    for done, variant in enumerate(variants):
        job.check()
        job.report(FITTING, done, len(variants), unit="images")
        if variant.kind is None:
            begun = time.monotonic()
        elif minutes is not None and time.monotonic() - begun > 60 * minutes:
            logger.info(
                "The estimate of quality is fitted on %d of %d images, for which there was time.",
                done, len(variants),
            )  # fmt: skip
            return rows, done
        rows += _rows(predictor, cases[variant.case], variant, match, job)
    job.report(FITTING, len(variants), len(variants), unit="images")
    return rows, len(variants)


def _rows(
    predictor: Predictor, case: PatientCase, variant: Variant, match: LabelMatch, job: Job
) -> Iterator[TrustRow]:
    """Yield the labels of one answer; a fault that the model refuses yields none."""
    image, truth = read_labelled(case, match.known_values)
    if variant.kind is not None:
        seed = fault_seed(case.id, variant.kind, variant.strength)
        fault = CORRUPTIONS.get(variant.kind)
        image, truth = corrupted(fault, image, truth, variant.strength, seed)
    try:
        predicted = predictor.predict(image, job.silent())
    except (DataError, NonFiniteStateError) as error:
        if variant.kind is None:
            logger.warning("%s: is left out of the estimate (%s).", case.id, error.message)
        return
    if predicted.features is None:
        logger.warning(
            "%s: is left out of the estimate: the memory budget leaves no room for a second look "
            "(prediction.memory_budget_gb).", case.id,
        )  # fmt: skip
        return
    masks = label_masks(
        predicted.label_map.array[0], truth.array[0], predictor.spec.labels, match.truth
    )
    for name, features in predicted.features.items():
        found, true = masks[name]
        # An empty mask is known to be right or worth nothing: there is nothing to learn from it.
        if found.any() and features["log_volume"] > 0:
            dice = Counts.of(found, true).dice or 0.0
            group = case.patient or case.id
            yield TrustRow(name, group, case.id, variant.kind is None, features, dice)


def _tell(section: TrustSection | None, images: int, seconds: float) -> None:
    if section is None:
        logger.warning(
            "The model cannot estimate its own answers: for that, two patients or more are "
            "needed that it was not trained on (data.split.val), with every label found in one."
        )
        return
    pairs = section.pairs
    errors = [
        abs(predicted - true)
        for predicted, true, clean in zip(pairs.predicted, pairs.true, pairs.clean, strict=True)
        if clean
    ]
    logger.info(
        "The estimate of quality was fitted on %d images of %d cases in %.0f s; of clean images, "
        "predicted and true Dice differ by %.3f in the mean.",
        images, section.cases, seconds, float(np.mean(errors)) if errors else float("nan"),
    )  # fmt: skip
