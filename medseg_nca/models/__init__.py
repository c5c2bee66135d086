"""Named models: automata that presets describe, and networks."""

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
