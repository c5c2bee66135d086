"""A model that goes to other processes by its place, not by its weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ModelError
from medseg_nca.inference.bundle import SPEC, WEIGHTS, ModelSpec, file_sha256, load_bundle
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.atomic import atomic_file, write_text
from medseg_nca.work.case_records import content_key

# What of a spec decides what is predicted, and how it is called.
_DECIDES = {"name", "task", "model", "labels", "plan", "seed"}
# The last predictor that this process loaded, by key and device: a process serves one run.
_loaded: dict[tuple[str, str], Predictor] = {}


class SharedModel:
    """A predictor that every process has once.

    Args:
        predictor: of this process.
        place: a folder for copies of the model's two files, which every process can see. None if
            the model stays in this process.

    Attributes:
        key: SHA-256 of weights, settings, labels and preprocessing: of all that decides a result
            besides the image.

    Raises:
        ModelError: if the weights cannot be read.
        OutputError: if the copies cannot be written.
    """

    def __init__(self, predictor: Predictor, place: Path | None = None) -> None:
        self._predictor: Predictor | None = predictor
        self._device = str(predictor.loaded.device)
        self._settings: PredictionSettings = predictor.settings
        spec = _with_hash(predictor)
        self.key = content_key(
            spec.model_dump(mode="json", include=_DECIDES),
            spec.weights_sha256,
            self._settings.model_dump(mode="json"),
        )
        self._folder = None if place is None else place.absolute() / f"model-{self.key[:12]}"
        if self._folder is not None:
            _copy(predictor.loaded.folder, spec, self._folder)

    def __getstate__(self) -> dict[str, Any]:
        """What crosses processes."""
        return {**self.__dict__, "_predictor": None}

    @property
    def predictor(self) -> Predictor:
        """The predictor of this process; loaded when it is first asked for.

        Raises:
            ModelError: if the files cannot be read, or the device is not present.
        """
        if self._predictor is None:
            self._predictor = self._load()
        return self._predictor

    def _load(self) -> Predictor:
        if self._folder is None:
            raise ModelError("The model was not shared with other processes.")
        found = (self.key, self._device)
        if found not in _loaded:
            _loaded.clear()
            _loaded[found] = Predictor(load_bundle(self._folder, self._device), self._settings)
        return _loaded[found]


def _with_hash(predictor: Predictor) -> ModelSpec:
    spec = predictor.spec
    if spec.weights_sha256:
        return spec
    digest = file_sha256(predictor.loaded.folder / WEIGHTS)
    return spec.model_copy(update={"weights_sha256": digest})


def _copy(source: Path, spec: ModelSpec, folder: Path) -> None:
    with atomic_file(folder / WEIGHTS) as path:
        shutil.copyfile(source / WEIGHTS, path)
    write_text(folder / SPEC, spec.to_json())
