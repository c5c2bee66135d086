"""The options of a prediction as commands name them, and the settings that they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medseg_nca.config.base import Settings
from medseg_nca.config.loading import validate, with_overrides
from medseg_nca.config.training import PredictionSettings

# Option to field of ``prediction``; an option that turns something off stands for its opposite.
FIELDS = {
    "probabilities": "probabilities",
    "uncertainty": "uncertainty",
    "flips": "flips",
    "largest": "largest",
    "fire": "fire",
    "precision": "precision",
    "memory_gb": "memory_budget_gb",
    "seed": "seed",
    "keep_spacing": "match_spacing",
    "unlike": "unlike",
}
OPPOSITE = frozenset({"keep_spacing"})


class PredictSettings(Settings):
    """What ``medseg-nca predict --set`` can change."""

    prediction: PredictionSettings = PredictionSettings()


def prediction_settings(
    settings: PredictionSettings, options: Mapping[str, Any], overrides: Sequence[str] = ()
) -> PredictionSettings:
    """Return settings with the options of a command laid over them.

    Args:
        settings: those that a model carries.
        options: by name; those that are no option of a prediction are left out.
        overrides: such as ``prediction.seed=3``; they count more than options.

    Raises:
        ConfigError: for an unknown key or a value that does not fit.
    """
    changes = {
        FIELDS[name]: not value if name in OPPOSITE else value
        for name, value in options.items()
        if name in FIELDS
    }
    tree: dict[str, Any] = {"prediction": settings.changed(**changes).model_dump()}
    return validate(PredictSettings, with_overrides(tree, overrides), source="--set").prediction
