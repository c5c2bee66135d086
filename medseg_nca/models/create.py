"""The registry of models: ``medseg_nca/models/<name>.py`` and ``configs/model/<name>.yaml``."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from medseg_nca.config.model import ModelSettings
from medseg_nca.config.presets import find_preset, merge, preset_names, read_yaml
from medseg_nca.errors import ConfigError
from medseg_nca.models.base import SegmentationModel
from medseg_nca.registry import ModuleRegistry

_PARTS = (
    "auto",
    "base",
    "baseline",
    "costs",
    "create",
    "describe",
    "focus",
    "geometry",
    "gradient",
    "head",
    "inference",
    "multilevel",
    "recognise",
    "tiling",
    "views",
)
MODELS = ModuleRegistry("medseg_nca.models", "build", "model", exclude=_PARTS, error=ConfigError)


def build_model(settings: ModelSettings) -> SegmentationModel:
    """Build the model that resolved settings describe.

    Raises:
        ConfigError: if the name is unknown or the settings do not fit.
    """
    model: SegmentationModel = MODELS.get(settings.name)(settings)
    return model


def create_model(name: str, **settings: Any) -> SegmentationModel:
    """Build a model by name from its preset, with settings that replace the preset's.

    >>> model = create_model("med_nca", dims=2, in_channels=1, out_channels=1)
    >>> model.parameter_count()
    25920

    Raises:
        ConfigError: if the name or a setting is unknown.
    """
    MODELS.get(name)
    preset = read_yaml(find_preset(name, "model")) if name in preset_names("model") else {}
    tree = merge({"name": name, "family": "generic", **preset}, settings)
    try:
        resolved: ModelSettings = TypeAdapter(ModelSettings).validate_python(tree)
    except ValidationError as error:
        raise ConfigError(f"create_model({name!r}): {error}") from error
    return build_model(resolved)
