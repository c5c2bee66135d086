"""The options of a prediction as commands name them, and the settings that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def prediction_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the fields of ``prediction`` that options give.

    Args:
        options: by name; those that are no field of ``prediction`` are left out.
    """
    return {
        FIELDS[name]: not value if name in OPPOSITE else value
        for name, value in options.items()
        if name in FIELDS
    }
