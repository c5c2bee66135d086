"""The options of a prediction as commands name them, and the settings that they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medseg_nca.config.base import Settings
from medseg_nca.config.loading import validate, with_overrides
from medseg_nca.config.training import PredictionSettings

# Fields of the gate, whose options are called so too.
GATE = ("acceptable", "miss_rate")
# Option to field of ``prediction`` or of its part ``gate``; an option that turns something off
# stands for its opposite.
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
    "no_estimate": "estimate",
    **{name: f"gate.{name}" for name in GATE},
}
OPPOSITE = frozenset({"keep_spacing", "no_estimate"})
# Options about the estimate of quality, which tasks without one do not have.
OF_ESTIMATE = frozenset({"no_estimate", *GATE})


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
    gate = {key: changes.pop(f"gate.{key}") for key in GATE if f"gate.{key}" in changes}
    changed = with_gate(settings.changed(**changes), **gate)
    tree: dict[str, Any] = {"prediction": changed.model_dump()}
    return validate(PredictSettings, with_overrides(tree, overrides), source="--set").prediction


def with_gate(settings: PredictionSettings, **gate: float | None) -> PredictionSettings:
    """Return settings with some fields of the gate changed.

    Args:
        settings: those that a model carries.
        **gate: ``acceptable`` and ``miss_rate``; None keeps what the settings say.

    Raises:
        ConfigError: for a value that does not fit.
    """
    given = {name: value for name, value in gate.items() if value is not None}
    return settings.changed(gate=settings.gate.changed(**given)) if given else settings
