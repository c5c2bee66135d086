"""How a trained model is used from then on, as its validation cases tell."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.data import AugmentSettings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.datasets.prepared import PreparedCase
from medseg_nca.datasets.truth import read_labelled
from medseg_nca.errors import NonFiniteStateError
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.largest import MIN_CASES, IslandTrial, compare_maps, judge, too_few
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job

# In mean Dice: every prediction takes at least twice as long from then on.
WORTH_A_FLIP = 0.002

logger = logging.getLogger(__name__)

LabelMap = NDArray[np.integer]
Case = tuple[LabelMap, Volume, tuple[float, ...]]


def settle_prediction(
    loaded: LoadedModel,
    settings: PredictionSettings,
    augment: AugmentSettings,
    cases: Sequence[PreparedCase],
    job: Job | None = None,
) -> tuple[PredictionSettings, IslandTrial | None]:
    """Decide what the settings leave to the training: flips first, and with them the islands.

    Args:
        loaded: the model as it will be saved.
        settings: with which it will be used.
        augment: how its samples were changed in training.
        cases: of the validation.
        job: looked at before every case.

    Returns:
        The settings with ``flips`` and ``largest`` decided, nothing being done where there is no
        evidence for it; and the evidence on islands, if it was asked for.

    Raises:
        Interrupted: if the job was cancelled.
    """
    job = job or Job()
    try:
        settings = _settle_flips(loaded, settings, augment, cases, job)
        return _settle_largest(loaded, settings, cases, job)
    except NonFiniteStateError as error:
        logger.warning("Flips and islands are not decided: %s", error.message)
        nothing = {"flips": settings.flip_axes, "largest": settings.kept_labels}
        return settings.changed(**nothing), None


def _settle_flips(
    loaded: LoadedModel, settings: PredictionSettings, augment: AugmentSettings,
    cases: Sequence[PreparedCase], job: Job,
) -> PredictionSettings:  # fmt: skip
    """Whether flips that the training has shown are averaged."""
    if settings.flips != "auto":
        return settings
    axes = augment.flip_axes if augment.enabled and augment.flip_p > 0 else ()
    if not axes:
        logger.info("No axis is flipped: the training has flipped none (augment.flip_axes).")
        return settings.changed(flips=())
    word, times = "axis" if len(axes) == 1 else "axes", 2 ** len(axes)
    if len(cases) < MIN_CASES:
        verdict = too_few(len(cases))
    else:
        without, with_them = (
            _predicted(loaded, settings.changed(flips=some), cases, job) for some in ((), axes)
        )
        labels = loaded.spec.labels
        verdict = judge(
            [
                compare_maps(plain, flipped, truth.array[0], spacing, labels)
                for (plain, truth, spacing), (flipped, _, _) in zip(without, with_them, strict=True)
            ],
            WORTH_A_FLIP,
        )
    done = f"are averaged, which takes {times} times as long" if verdict.helps else "are left out"
    named = f"{word} {', '.join(map(str, axes))}"
    logger.info("Flips of the %s %s: %s.", named, done, verdict.reason)
    return settings.changed(flips=axes if verdict.helps else ())


def _settle_largest(
    loaded: LoadedModel, settings: PredictionSettings, cases: Sequence[PreparedCase], job: Job
) -> tuple[PredictionSettings, IslandTrial | None]:
    """Of which labels only the largest part is kept."""
    if settings.largest != "auto":
        return settings, None
    trial = IslandTrial(loaded.spec.labels)
    predicted = _predicted(loaded, settings, cases, job)
    for case, (found, truth, spacing) in zip(cases, predicted, strict=True):
        trial.add(found, truth.array[0], spacing, case.id)
    names, reasons = trial.decide()
    for reason in reasons:
        logger.info("%s", reason)
    return settings.changed(largest=names), trial


def _predicted(
    loaded: LoadedModel, settings: PredictionSettings, cases: Sequence[PreparedCase], job: Job
) -> Iterator[Case]:
    """Label map with all islands, truth and spacing of each case."""
    plain = settings.changed(largest=(), uncertainty=0, probabilities=False, unlike="warn")
    # Training does not end because an image needs more memory than was thought of.
    predictor = Predictor(loaded, plain, keeps_budget=False)
    for case in cases:
        image, truth = read_labelled(case, loaded.spec.labels.known_values)
        yield predictor.predict(image, job).label_map.array[0], truth, image.spacing
