"""The space of a search: from a file, from ``--tune`` or the default of a family of models.

A space file is YAML. Its keys are those of the settings, written as one word or nested::

    training.lr: {log: [1e-4, 1e-2]}
    model.cell:
      channels: {int: [8, 32, 8]}
    training.optimiser: {choice: [adamw, muon]}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from medseg_nca.config import RunSettings
from medseg_nca.config.auto import tree_of
from medseg_nca.config.loading import validate
from medseg_nca.config.presets import merge, parse_yaml, read_yaml
from medseg_nca.errors import ConfigError
from medseg_nca.search.dimension import KINDS, Dimension, dimension

Space = tuple[Dimension, ...]
# Settings that no search may change, and why.
_FIXED = {
    "training.iterations": "the budget, which is the same for every trial (--budget)",
    "training.max_minutes": "the budget, which is the same for every trial (--budget)",
    "training.validate_every": "the rhythm of the validations, by which trials are compared",
    "training.validate_cases": "what trials are judged on",
    "training.checkpoint_every": "no part of what is learned",
    "training.log_every": "no part of what is learned",
    "training.workers": "of the machine and no part of what is learned",
    "training.threads": "of the machine and no part of what is learned",
    "seed": "the same for every trial (--seed)",
    "name": "only a name",
    "task": "what is learned",
    "device": "of the machine and no part of what is learned",
    "data": "the data and the split, which are the same for every trial",
    "preprocess": "how the data are prepared, which is done once for all trials",
    "evaluation": "how a finished model is measured",
    "tracking": "where results are logged",
}
_RANGE = re.compile(r"^(?:(log|float|int):)?([^,\[\]]+?)\.\.([^,\[\]]+?)(?::([^,\[\]]+))?$")
TUNE = (
    "Write KEY=log:1e-4..1e-2, KEY=0.3..0.9, KEY=int:8..32:8 (with a step), or KEY=8,16,32 for a "
    "choice."
)


def read_space(path: Path) -> Space:
    """Read a space file.

    Raises:
        ConfigError: if it is missing or not YAML, or holds something else, or an empty or reversed
            range; the message names file and key.
    """
    return _space(read_yaml(path), str(path))


def default_space(settings: RunSettings) -> Space:
    """Return the default space of the family of the settings' model."""
    family = settings.model.family
    text = files("medseg_nca.configs.search").joinpath(f"{family}.yaml").read_text("utf-8")
    return _space(parse_yaml(text), f"the default space of {family}")


def parse_tune(text: str) -> Dimension:
    """Read a dimension as ``--tune`` writes it.

    Raises:
        ConfigError: if it is written otherwise, or its range is empty or reversed.
    """
    key, separator, values = text.partition("=")
    source = f"--tune {text}"
    if not separator or not key.strip() or not values.strip():
        raise ConfigError(f"{source}: says not which values of which key.", hint=TUNE)
    found = _RANGE.match(values.strip())
    if found is None:
        return dimension(key.strip(), {"choice": _parsed(f"[{values}]", source)}, "--tune")
    ends = [_parsed(part, source) for part in found.groups()[1:] if part is not None]
    whole = all(isinstance(end, int) for end in ends)
    return dimension(key.strip(), {found[1] or ("int" if whole else "float"): ends}, "--tune")


def with_tuned(space: Space, tuned: Sequence[Dimension]) -> Space:
    """Return a space with further dimensions, which replace those of the same key."""
    dimensions = {dimension.key: dimension for dimension in (*space, *tuned)}
    return tuple(dimensions.values())


def with_values(settings: RunSettings, values: Mapping[str, Any], source: str) -> RunSettings:
    """Return settings with other values by key; the keys of a list are its numbers.

    Raises:
        ConfigError: if there is no such key (the nearest is named), or a value does not fit.
    """
    tree = settings.model_dump(mode="json")
    for key, value in values.items():
        tree = merge(tree, tree_of(key, value))
    return validate(RunSettings, tree, source=source)


def check_keys(space: Space) -> None:
    """Refuse a space without dimensions, and settings that are the same for every trial.

    Raises:
        ConfigError: if there is such a setting; the message names it and says why.
    """
    if not space:
        raise ConfigError("The space has no settings to search.", hint=TUNE)
    for dim in space:
        for fixed, reason in _FIXED.items():
            if dim.key == fixed or dim.key.startswith(f"{fixed}."):
                raise ConfigError(
                    f"{dim.key}: is no dimension of a search: it is {reason}.",
                    hint=f"Leave it out of the space; --set {dim.key}=VALUE sets it for all.",
                )


def _space(tree: Mapping[str, Any], source: str) -> Space:
    found = [dimension(key, spec, source) for key, spec in _leaves(tree, "")]
    keys = [dim.key for dim in found]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ConfigError(f"{source}: {twice} is given twice.")
    if not found:
        raise ConfigError(f"{source}: has no settings to search.")
    return tuple(found)


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield every key with what stands for its values."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and not set(value) & set(KINDS):
            # A mapping whose only value is a list is a range of an unknown kind.
            inner = list(value.values())
            if not (len(inner) == 1 and isinstance(inner[0], list)):
                yield from _leaves(value, f"{name}.")
                continue
        yield name, value


def _parsed(text: str, source: str) -> Any:
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: cannot be read.", hint=TUNE) from error
