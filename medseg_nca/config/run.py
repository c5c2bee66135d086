"""The settings of a whole run."""

from __future__ import annotations

from pydantic import Field

from medseg_nca.config.base import Settings
from medseg_nca.config.bounds import Name
from medseg_nca.config.data import AugmentSettings, DataSettings, PreprocessSettings
from medseg_nca.config.model import ModelSettings
from medseg_nca.config.training import (
    EvaluationSettings,
    PredictionSettings,
    TrackingSettings,
    TrainingSettings,
)


class RunSettings(Settings):
    """Everything that decides a run. Resolved, it lies beside the results as ``settings.yaml``."""

    name: Name = "run"
    task: str = "segmentation"
    seed: int = Field(0, ge=0, lt=2**63)
    device: str = "auto"
    data: DataSettings = DataSettings()
    preprocess: PreprocessSettings = PreprocessSettings()
    augment: AugmentSettings = AugmentSettings()
    model: ModelSettings
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    prediction: PredictionSettings = PredictionSettings()
    tracking: TrackingSettings = TrackingSettings()
