"""A model that goes to other processes by its place, not by its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg_nca.config.engines import AUTO
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ModelError
from medseg_nca.inference.bundle import LoadedModel, load_bundle, save_loaded
from medseg_nca.inference.model_store import ModelStore
from medseg_nca.inference.predictor import Predictor
from medseg_nca.work.case_records import content_key

# What of a spec decides what is predicted, and how it is called; and what of it does not.
_DECIDES = {"name", "task", "model", "labels", "plan", "seed"}
_NOT: Any = {"model": {"engine", "checkpoint", "coarse_gradient"}}
# The model of the run that this process works for; the model of the next run replaces it.
_models = ModelStore(most=1)


def named_engine(engine: str) -> tuple[str, ...]:
    """Return what the key of a result holds of the engine: its name, where the user chose one.

    Engines agree but for rounding. Whoever names one wants results by it, not those that are there.
    """
    return () if engine == AUTO else (engine,)


class SharedModel:
    """A predictor that every process has once.

    Args:
        predictor: of this process.
        place: a folder for the model's two files, which every process can see. None if the model
            stays in this process.

    Attributes:
        key: SHA-256 of weights, settings, labels and preprocessing, and of an engine that was
            named: of all that decides a result besides the image.

    Raises:
        OutputError: if the files cannot be written.
    """

    def __init__(self, predictor: Predictor, place: Path | None = None) -> None:
        self._predictor: Predictor | None = predictor
        self._device, self._engine = str(predictor.loaded.device), predictor.loaded.engine
        self._settings: PredictionSettings = predictor.settings
        spec = predictor.spec
        self._weights = spec.weights_sha256
        # Without defaults: a setting that a later version adds leaves finished cases finished.
        self.key = content_key(
            spec.model_dump(mode="json", include=_DECIDES, exclude=_NOT, exclude_defaults=True),
            self._weights,
            self._settings.model_dump(mode="json", exclude_defaults=True),
            *named_engine(self._engine),
        )
        self._folder = None if place is None else place.absolute() / f"model-{self.key[:12]}"
        if self._folder is not None:
            save_loaded(self._folder, predictor.loaded)

    def __getstate__(self) -> dict[str, Any]:
        """What crosses processes."""
        return {**self.__dict__, "_predictor": None}

    @property
    def predictor(self) -> Predictor:
        """The predictor of this process; its model is loaded when it is first asked for.

        Raises:
            ModelError: if the files cannot be read, or the device is not present.
        """
        if self._predictor is None:
            key = (self._folder, self._device, self._engine)
            loaded = _models.get(key, self._load)
            self._predictor = Predictor(loaded, self._settings)
        return self._predictor

    def _load(self) -> LoadedModel:
        if self._folder is None:
            raise ModelError("The model was not shared with other processes.")
        loaded = load_bundle(self._folder, self._device, self._engine)
        # Results name the weights as the model was registered with them.
        spec = loaded.spec.model_copy(update={"weights_sha256": self._weights})
        return replace(loaded, spec=spec)
