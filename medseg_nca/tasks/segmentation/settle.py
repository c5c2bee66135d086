"""Decide on validation cases how a trained model is used: flips, and removal of islands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.data import AugmentSettings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.datasets.prepared import PreparedCase
from medseg_nca.datasets.truth import read_labelled
from medseg_nca.errors import NonFiniteStateError
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.largest import MIN_CASES, IslandTrial, compare_maps, judge, too_few
from medseg_nca.inference.predictor import Prediction, Predictor
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job

# Least gain in mean Dice that justifies flips, which make every prediction at least twice as slow.
WORTH_A_FLIP = 0.002

logger = logging.getLogger(__name__)

LabelMap = NDArray[np.integer]
Case = tuple[LabelMap, Volume, tuple[float, ...]]
Predicted = Callable[[PredictionSettings], Iterator[Case]]


class MapsLabels(Protocol):
    """Predicts label maps, as :class:`Predictor` does."""

    def predict(self, volume: Volume, job: Job | None = None) -> Prediction:
        """Predict the label map of an image."""


class MakesPredictor(Protocol):
    """Makes what predicts with a model by given settings."""

    def __call__(self, loaded: LoadedModel, settings: PredictionSettings) -> MapsLabels:
        """Return the predictor."""


# A validation image above the memory budget must not end the training.
_WITHOUT_BUDGET = partial(Predictor, keeps_budget=False)


def settle_prediction(
    loaded: LoadedModel,
    settings: PredictionSettings,
    augment: AugmentSettings,
    cases: Sequence[PreparedCase],
    job: Job | None = None,
    make_predictor: MakesPredictor = _WITHOUT_BUDGET,
) -> tuple[PredictionSettings, IslandTrial | None]:
    """Decide what the settings leave to the training: first flips, then islands with these flips.

    Args:
        loaded: the model as it will be saved.
        settings: the prediction settings that the model will carry.
        augment: how the samples of the training were changed.
        cases: the validation cases.
        job: asked before every case whether to go on.
        make_predictor: makes what predicts the cases by each of the settings that are tried.

    Returns:
        The settings with ``flips`` and ``largest`` decided; both stay empty without evidence for
        them. And the trial of islands, if the settings leave islands to the training.

    Raises:
        Interrupted: if the job was cancelled.
    """
    job = job or Job()
    try:
        predicted = partial(_predicted, loaded, cases=cases, job=job, make_predictor=make_predictor)
        settings = _settle_flips(loaded, settings, augment, cases, predicted)
        return _settle_largest(loaded, settings, cases, predicted)
    except NonFiniteStateError as error:
        logger.warning("Flips and islands are not decided: %s", error.message)
        nothing = {"flips": settings.flip_axes, "largest": settings.kept_labels}
        return settings.changed(**nothing), None


def _settle_flips(
    loaded: LoadedModel, settings: PredictionSettings, augment: AugmentSettings,
    cases: Sequence[PreparedCase], predicted: Predicted,
) -> PredictionSettings:  # fmt: skip
    """Decide whether predictions average over the flips that were used in training."""
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
        without, with_them = (predicted(settings.changed(flips=some)) for some in ((), axes))
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
    loaded: LoadedModel, settings: PredictionSettings, cases: Sequence[PreparedCase],
    predicted: Predicted,
) -> tuple[PredictionSettings, IslandTrial | None]:  # fmt: skip
    """Decide of which labels only the largest part is kept."""
    if settings.largest != "auto":
        return settings, None
    trial = IslandTrial(loaded.spec.labels)
    for case, (found, truth, spacing) in zip(cases, predicted(settings), strict=True):
        trial.add(found, truth.array[0], spacing, case.id)
    names, reasons = trial.decide()
    for reason in reasons:
        logger.info("%s", reason)
    return settings.changed(largest=names), trial


def _predicted(
    loaded: LoadedModel, settings: PredictionSettings, cases: Sequence[PreparedCase], job: Job,
    make_predictor: MakesPredictor,
) -> Iterator[Case]:  # fmt: skip
    """Yield each case with its label map (all islands kept), truth and spacing."""
    plain = settings.changed(largest=(), uncertainty=0, probabilities=False, unlike="warn")
    predictor = make_predictor(loaded, plain)
    for case in cases:
        image, truth = read_labelled(case, loaded.spec.labels.known_values)
        yield predictor.predict(image, job).label_map.array[0], truth, image.spacing
