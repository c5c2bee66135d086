"""Named models: a registry over presets of the automaton's parts, and baselines."""

from medseg_nca.models.base import LevelOutput, RunOptions, SegmentationModel
from medseg_nca.models.create import MODELS, build_model, create_model

__all__ = [
    "MODELS",
    "LevelOutput",
    "RunOptions",
    "SegmentationModel",
    "build_model",
    "create_model",
]
