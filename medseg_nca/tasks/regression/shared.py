"""A model of the task that other processes get as the path of its files."""

from __future__ import annotations

from pathlib import Path

from medseg_nca.config.training import PredictionSettings
from medseg_nca.inference.task_model import TaskModel, load_task_model, save_task_model
from medseg_nca.models import build_model
from medseg_nca.tasks.regression.options import TASK_NAME, facts_of
from medseg_nca.tasks.regression.predictor import RealPredictor
from medseg_nca.work.shared_model import SharedPredictor

# The fields of a spec that decide neither what is predicted nor what it is called.
_NOT = {"metrics", "reference", "created", "package_version", "options"}


class SharedRegression(SharedPredictor[TaskModel, RealPredictor]):
    """A predictor of real values that every process makes once; see :class:`SharedPredictor`."""

    def __init__(self, predictor: RealPredictor, place: Path | None = None) -> None:
        decides = predictor.model.spec.model_dump(mode="json", exclude=_NOT, exclude_defaults=True)
        super().__init__(predictor, predictor.model, decides, place)

    def _save(self, folder: Path, model: TaskModel) -> None:
        save_task_model(folder, model.module, model.spec)

    def _load(self, folder: Path, device: str, engine: str) -> TaskModel:
        return load_task_model(
            folder, TASK_NAME, lambda spec: build_model(spec.model), device, engine
        )

    def _make(self, model: TaskModel, settings: PredictionSettings) -> RealPredictor:
        return RealPredictor(model, facts_of(model.spec, model.folder), settings)
