"""The files of a run folder, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SETTINGS, SPLIT, LOG, CHECKPOINTS = "settings.yaml", "split.json", "train.log", "checkpoints"
RESULT, RECIPE = "training.json", "recipe.json"
# Of a cross-validation: the models of all folds as one.
ENSEMBLE = "ensemble"


def training_of(folder: Path) -> dict[str, Any]:
    """What a run folder, or the model's folder in it, says of the training; {} if nothing does."""
    for place in (folder, folder.parent):
        try:
            tree = json.loads((place / RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return tree if isinstance(tree, dict) else {}
    return {}
