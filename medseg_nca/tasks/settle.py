"""How a trained model is used from then on, as its validation cases tell."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from medseg_nca.config.training import PredictionSettings
from medseg_nca.datasets.prepared import PreparedCase
from medseg_nca.datasets.truth import read_labelled
from medseg_nca.errors import NonFiniteStateError
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.largest import IslandTrial
from medseg_nca.inference.predictor import Predictor

logger = logging.getLogger(__name__)


def settle_largest(
    loaded: LoadedModel, settings: PredictionSettings, cases: Sequence[PreparedCase]
) -> PredictionSettings:
    """Decide of which labels only the largest part is kept, if that is left to the training.

    Args:
        loaded: the model as it will be saved.
        settings: with which it will be used.
        cases: of the validation.

    Returns:
        The settings with ``largest`` decided; nothing is removed where there is no evidence.
    """
    if settings.largest != "auto":
        return settings
    # Training does not end because an image needs more memory than was thought of.
    plain = settings.model_copy(
        update={"largest": (), "uncertainty": 0, "probabilities": False, "unlike": "warn"}
    )
    predictor = Predictor(loaded, plain, keeps_budget=False)
    trial = IslandTrial(loaded.spec.labels)
    try:
        for case in cases:
            image, truth = read_labelled(case, loaded.spec.labels.known_values)
            found = predictor.predict(image).label_map.array[0]
            trial.add(found, truth.array[0], image.spacing)
    except NonFiniteStateError as error:
        logger.warning("Which islands to remove is not decided: %s", error.message)
        return settings.model_copy(update={"largest": ()})
    names, reasons = trial.decide()
    for reason in reasons:
        logger.info("%s", reason)
    return settings.model_copy(update={"largest": names})
