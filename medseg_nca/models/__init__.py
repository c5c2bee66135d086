"""Models: automata, which settings and presets describe, and MONAI's networks as baselines."""

from medseg_nca.models.base import LevelOutput, RunOptions, SegmentationModel
from medseg_nca.models.create import build_model, create_model, model_names

__all__ = [
    "LevelOutput",
    "RunOptions",
    "SegmentationModel",
    "build_model",
    "create_model",
    "model_names",
]
