"""The settings of a prediction: those of the model, with what a caller wants otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medseg_nca.config import Settings
from medseg_nca.config.loading import parse_override, validate
from medseg_nca.config.presets import merge
from medseg_nca.config.training import PredictionSettings
from medseg_nca.inference.spec import ModelSpec


class PredictSettings(Settings):
    """What ``medseg-nca predict --set`` can change."""

    prediction: PredictionSettings = PredictionSettings()


def prediction_settings(
    spec: ModelSpec, changes: Mapping[str, Any], overrides: Sequence[str]
) -> PredictionSettings:
    """Lay changes over the settings that a model carries.

    Args:
        spec: of the model.
        changes: by the names of the fields of ``prediction``.
        overrides: such as ``prediction.seed=3``; they count more.

    Raises:
        ConfigError: for an unknown key or a value that does not fit.
    """
    settings = spec.prediction.changed(**changes)
    tree: dict[str, Any] = {"prediction": settings.model_dump()}
    for override in overrides:
        tree = merge(tree, parse_override(override))
    return validate(PredictSettings, tree, source="--set").prediction
