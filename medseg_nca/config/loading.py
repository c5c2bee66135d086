"""From a preset's name and ``--set`` options to resolved settings, and back to YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from medseg_nca.config.auto import leave_unnamed, tree_of
from medseg_nca.config.base import Settings
from medseg_nca.config.explain import explain
from medseg_nca.config.model import NcaModelSettings
from medseg_nca.config.parts import check_names
from medseg_nca.config.presets import Tree, compose, load_preset, merge, parse_yaml, read_yaml
from medseg_nca.config.run import RunSettings
from medseg_nca.errors import ConfigError

# Its levels are those that the preprocessing plans for the data.
DEFAULT_MODEL = "pyramid_nca"

S = TypeVar("S", bound=Settings)


def load_settings(name: str | None, overrides: Sequence[str] = ()) -> RunSettings:
    """Return the settings of a preset (or the defaults), with overrides like ``training.lr=1e-3``.

    What neither names is "auto" where the recipe can decide it.

    Raises:
        ConfigError: for an unknown preset, key or part of a cell, or a value that does not fit; it
            names the key.
    """
    tree = load_preset(name) if name else {}
    model = tree.get("model", {})
    if isinstance(model, Mapping) and "family" not in model:  # not yet a whole model
        tree = merge(compose({}, {"model": DEFAULT_MODEL}), tree)
    for override in overrides:
        tree = compose(tree, parse_override(override))
    settings = validate(RunSettings, leave_unnamed(tree), source=name or "settings")
    if isinstance(settings.model, NcaModelSettings):
        check_names(settings.model.cell)
    return settings


def parse_override(text: str) -> Tree:
    """Turn ``a.b=value`` into ``{"a": {"b": value}}``; the value is read as YAML.

    Raises:
        ConfigError: if there is no ``=``, a part of the key is empty or the value is not YAML.
    """
    key, separator, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not separator or not all(parts):
        raise ConfigError(f"--set {text!r}: write it as key=value, for example training.lr=1e-3.")
    try:
        parsed: Any = parse_yaml(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: the value is not valid YAML: {error}") from error
    return tree_of(".".join(parts), parsed)


def with_overrides(tree: Tree, overrides: Sequence[str]) -> Tree:
    """Return a tree with changes as ``--set`` writes them; later ones win.

    Raises:
        ConfigError: as :func:`parse_override` raises it.
    """
    for override in overrides:
        tree = merge(tree, parse_override(override))
    return tree


def validate(model: type[S], tree: Any, *, source: str) -> S:
    """Build settings from a mapping; errors name the source, the key and the nearest known key.

    Raises:
        ConfigError: if the mapping does not fit the model.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {explain(model, error)}") from error


def read_settings(path: Path) -> RunSettings:
    """Read resolved settings that :func:`to_yaml` wrote.

    Raises:
        ConfigError: if the file is missing, is not YAML or holds something else.
    """
    return validate(RunSettings, read_yaml(path), source=str(path))


def to_yaml(settings: Settings) -> str:
    """Return settings as YAML, every default spelled out, in declaration order."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
