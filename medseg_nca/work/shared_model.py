"""A model that other processes get as the path of its files, because its weights may be large."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from medseg_nca.config.engines import AUTO
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ModelError
from medseg_nca.inference.bundle import LoadedModel, load_bundle, save_loaded
from medseg_nca.inference.model_store import ModelStore
from medseg_nca.inference.predictor import Predictor
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.work.case_records import content_key

# The fields of a spec that decide what is predicted and what it is called, and fields in them that
# decide nothing.
_DECIDES = {"name", "task", "model", "labels", "plan", "seed"}
_NOT: Any = {"model": {"engine", "checkpoint", "coarse_gradient", "persist"}}
# Settings that decide how good a result is said to be; SharedModel adds them where it is said.
_OF_ESTIMATE = {"estimate", "gate"}
# The model of the run that this process works for; the model of the next run replaces it.
_models = ModelStore(most=1)


class HasSettings(Protocol):
    """A predictor of any task."""

    @property
    def settings(self) -> PredictionSettings:
        """The settings by which it predicts."""


Model = TypeVar("Model", LoadedModel, TaskModel)
AnyPredictor = TypeVar("AnyPredictor", bound=HasSettings)


def named_engine(engine: str) -> tuple[str, ...]:
    """Return what the key of a result holds of the engine: its name, where the user chose one.

    Engines agree but for rounding. Whoever names one wants results by it, not those that are there.
    """
    return () if engine == AUTO else (engine,)


class SharedPredictor(ABC, Generic[Model, AnyPredictor]):
    """A predictor that every process makes once, from the same model and settings.

    Args:
        predictor: the predictor of this process.
        model: the model that it predicts with.
        decides: what of the model's spec decides a result, as plain values without defaults: so a
            setting that a later version adds leaves finished cases finished.
        place: a folder for the model's two files, which every process can see. None if the model
            stays in this process.

    Attributes:
        key: SHA-256 of weights, settings, ``decides`` and an engine that was named: of all that
            decides a result besides the image.

    Raises:
        OutputError: if the files cannot be written.
    """

    def __init__(
        self, predictor: AnyPredictor, model: Model, decides: Any, place: Path | None
    ) -> None:
        self._predictor: AnyPredictor | None = predictor
        self._device, self._engine = str(model.device), model.engine
        self._settings: PredictionSettings = predictor.settings
        self._weights = model.spec.weights_sha256
        self.key = content_key(
            decides,
            self._weights,
            self._settings.model_dump(mode="json", exclude_defaults=True, exclude=_OF_ESTIMATE),
            *named_engine(self._engine),
        )
        self._folder = None if place is None else place.absolute() / f"model-{self.key[:12]}"
        if self._folder is not None:
            self._save(self._folder, model)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process gets: everything except the predictor."""
        return {**self.__dict__, "_predictor": None}

    @property
    def predictor(self) -> AnyPredictor:
        """The predictor of this process, whose model is loaded when it is first asked for.

        Raises:
            ModelError: if the files cannot be read, or the device is not present.
        """
        if self._predictor is None:
            key = (self._folder, self._device, self._engine)
            model = _models.get(key, self._load_named)
            self._predictor = self._make(model, self._settings)
        return self._predictor

    def _load_named(self) -> Model:
        """Load the model under the sha256 of its registered weights, which results name."""
        if self._folder is None:
            raise ModelError("The model was not shared with other processes.")
        model = self._load(self._folder, self._device, self._engine)
        return replace(model, spec=model.spec.changed(weights_sha256=self._weights))

    @abstractmethod
    def _save(self, folder: Path, model: Model) -> None:
        """Write the model's two files."""

    @abstractmethod
    def _load(self, folder: Path, device: str, engine: str) -> Model:
        """Read the model's two files."""

    @abstractmethod
    def _make(self, model: Model, settings: PredictionSettings) -> AnyPredictor:
        """Return a predictor of the model."""


class SharedModel(SharedPredictor[LoadedModel, Predictor]):
    """A predictor of label maps that every process makes once; see :class:`SharedPredictor`.

    What the estimate of quality stands on decides a result only where one is made: so finished
    cases stay finished for a model that carries no estimate, and where the settings want none.
    """

    def __init__(self, predictor: Predictor, place: Path | None = None) -> None:
        spec, settings = predictor.spec, predictor.settings
        decides: Any = spec.model_dump(
            mode="json", include=_DECIDES, exclude=_NOT, exclude_defaults=True
        )
        if settings.estimate and spec.trust is not None:
            decides = [decides, spec.trust.model_dump(mode="json"), settings.gate.model_dump()]
        super().__init__(predictor, predictor.loaded, decides, place)

    def _save(self, folder: Path, model: LoadedModel) -> None:
        save_loaded(folder, model)

    def _load(self, folder: Path, device: str, engine: str) -> LoadedModel:
        return load_bundle(folder, device, engine)

    def _make(self, model: LoadedModel, settings: PredictionSettings) -> Predictor:
        return Predictor(model, settings)
