"""Build models: automata from their settings alone, networks by their names."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from medseg_nca.config.model import ModelSettings, NcaModelSettings
from medseg_nca.config.presets import NETWORKS, merge, preset_names, read_model_preset
from medseg_nca.errors import ConfigError
from medseg_nca.models.base import SegmentationModel
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.suggest import unknown


def model_names() -> tuple[str, ...]:
    """Return the names that :func:`create_model` takes, sorted: presets of automata, networks."""
    return preset_names("model")


def build_model(settings: ModelSettings) -> SegmentationModel:
    """Build the model that resolved settings describe.

    The name of a network selects it. The name of an automaton has no effect, because its settings
    describe it completely.

    Raises:
        ConfigError: if there is no network of that name, or the settings do not make a model.
    """
    if isinstance(settings, NcaModelSettings):
        return MultiLevelNca(settings)
    network: SegmentationModel = NETWORKS.get(settings.name)(settings)
    return network


def create_model(name: str, **settings: Any) -> SegmentationModel:
    """Build a model by name from its preset, with settings that replace the preset's.

    >>> model = create_model("med_nca", dims=2, in_channels=1, out_channels=1)
    >>> model.parameter_count()
    25920

    Raises:
        ConfigError: if the name or a setting is unknown.
    """
    if name not in model_names():
        raise ConfigError(unknown("model", name, model_names()))
    tree = merge(read_model_preset(name), settings)
    try:
        resolved: ModelSettings = TypeAdapter(ModelSettings).validate_python(tree)
    except ValidationError as error:
        raise ConfigError(f"create_model({name!r}): {error}") from error
    return build_model(resolved)
