"""The names of the files in a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SETTINGS, SPLIT, LOG, CHECKPOINTS = "settings.yaml", "split.json", "train.log", "checkpoints"
RESULT, RECIPE = "training.json", "recipe.json"
# The folder of the model's two files.
MODEL = "model"
# Folder, in that of a cross-validation, of the ensemble of all folds.
ENSEMBLE = "ensemble"


def training_of(folder: Path) -> dict[str, Any]:
    """Return what a run folder, or its model's folder, tells about the training; else {}."""
    for place in (folder, folder.parent):
        try:
            tree = json.loads((place / RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return tree if isinstance(tree, dict) else {}
    return {}
