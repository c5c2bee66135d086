"""A model of the task that goes to other processes by its place, not by its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg_nca.errors import ModelError
from medseg_nca.inference.task_model import TaskModel, load_task_model, save_task_model
from medseg_nca.models import build_model
from medseg_nca.tasks.regression.options import TASK_NAME, facts_of
from medseg_nca.tasks.regression.predictor import RealPredictor
from medseg_nca.work.case_records import content_key
from medseg_nca.work.shared_model import named_engine

# What of a spec does not decide what is predicted, nor how it is called.
_NOT = {"metrics", "reference", "created", "package_version", "options"}


class SharedRegression:
    """A predictor that every process has once.

    Args:
        predictor: of this process.
        place: a folder for the model's two files, which every process can see. None if the model
            stays in this process.

    Attributes:
        key: SHA-256 of all that decides a result besides the image.

    Raises:
        OutputError: if the files cannot be written.
    """

    def __init__(self, predictor: RealPredictor, place: Path | None = None) -> None:
        self._predictor: RealPredictor | None = predictor
        model = predictor.model
        self._device, self._settings = str(model.device), predictor.settings
        self._weights, self._engine = model.spec.weights_sha256, model.engine
        self.key = content_key(
            model.spec.model_dump(mode="json", exclude=_NOT, exclude_defaults=True),
            self._weights,
            self._settings.model_dump(mode="json", exclude_defaults=True),
            *named_engine(self._engine),
        )
        self._folder = None if place is None else place.absolute() / f"model-{self.key[:12]}"
        if self._folder is not None:
            save_task_model(self._folder, model.module, model.spec)

    def __getstate__(self) -> dict[str, Any]:
        """What crosses processes."""
        return {**self.__dict__, "_predictor": None}

    @property
    def predictor(self) -> RealPredictor:
        """The predictor of this process; its model is loaded when it is first asked for.

        Raises:
            ModelError: if the files cannot be read, or the device is not present.
        """
        if self._predictor is None:
            if self._folder is None:
                raise ModelError("The model was not shared with other processes.")
            model = _loaded(self._folder, self._device, self._engine)
            spec = model.spec.changed(weights_sha256=self._weights)
            facts = facts_of(spec, self._folder)
            self._predictor = RealPredictor(replace(model, spec=spec), facts, self._settings)
        return self._predictor


# The model of the run that this process is a worker of; the one of the next run takes its place.
_known: dict[tuple[Path, str, str], TaskModel] = {}


def _loaded(folder: Path, device: str, engine: str) -> TaskModel:
    key = folder, device, engine
    if key not in _known:
        _known.clear()
        _known[key] = load_task_model(
            folder, TASK_NAME, lambda spec: build_model(spec.model), device, engine
        )
    return _known[key]
