"""Presets: the YAML files in ``configs/``, found by name or path, composed into one mapping.

In a run preset, ``extends: NAME`` starts from another preset, and ``model:`` may be the name of a
file in ``configs/model`` or a mapping with ``preset: NAME`` and what differs from it. A name that
ends in ``.yaml`` is a path; inside a settings file it may be relative to that file.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from medseg_nca.errors import ConfigError, PluginError
from medseg_nca.registry import Entries, PluginRegistry
from medseg_nca.suggest import unknown

Tree = dict[str, Any]
# Presets of other packages by group: an entry point names the package that holds NAME.yaml.
_OTHERS = {
    "": Entries("medseg_nca.configs", "preset"),
    "model": Entries("medseg_nca.configs.model", "model preset"),
}
# Models that are no automata. They need no preset: each setting has the default of its field.
NETWORKS = PluginRegistry(
    "medseg_nca.models.networks", "medseg_nca.models", "build", "network", error=ConfigError
)
# YAML 1.1 reads 1e-3 as a string, because it has no dot; people mean the number.
NUMBER = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that also knows 1e-3, and refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.YAMLError(f"a key must be a word (line {key_node.start_mark.line + 1})")
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"key {key!r} is given twice, again in line {line}")
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+0123456789"))


def parse_yaml(text: str) -> Any:
    """Parse YAML into plain Python values; raises ``yaml.YAMLError``."""
    try:
        return yaml.load(text, _Loader)  # a subclass of SafeLoader
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


def preset_names(group: str = "") -> tuple[str, ...]:
    """Names of the presets of a group, "" for runs or "model", sorted; networks are models."""
    networks = NETWORKS.names if group == "model" else ()
    return tuple(sorted({*_files(group), *_OTHERS[group].names, *networks}))


def read_model_preset(name: str) -> Tree:
    """Read the settings of a model that a name or the path of a file stands for.

    Raises:
        ConfigError: if there is no such model, or the file is not YAML.
    """
    if name in NETWORKS.names and not _has_file(name, "model"):
        return {"family": "generic", "name": name}
    return read_yaml(find_preset(name, "model"))


def describe_preset(name: str, group: str = "") -> str:
    """Return the first sentence of the comment that a preset begins with; "" without one.

    Of a preset that another package adds and that cannot be used it says why.
    """
    if not _has_file(name, group) and name in preset_names(group):
        return ""
    try:
        lines = find_preset(name, group).read_text(encoding="utf-8").splitlines()
    except PluginError as error:
        return error.message
    comment = takewhile(lambda line: line.startswith("#"), lines)
    text = " ".join(line.removeprefix("#").strip() for line in comment)
    return text.partition(". ")[0].removesuffix(".")


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """Return ``base`` with ``changes`` laid over it.

    Mappings merge; a mapping with numbers as keys changes those items of a list; everything else
    replaces.
    """
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = _merge_value(merged.get(key), value, key)
    return merged


def _merge_value(old: Any, value: Any, key: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    if isinstance(old, Mapping):
        return merge(old, value)
    if not isinstance(old, list) or not value or not all(str(k).isdecimal() for k in value):
        return value
    items = dict(enumerate(old))
    for index, item in value.items():
        if int(index) not in items:
            raise ConfigError(f"{key}.{index}: the list has items 0 to {len(old) - 1}.")
        items[int(index)] = _merge_value(items[int(index)], item, f"{key}.{index}")
    return list(items.values())


def read_yaml(path: Path) -> Tree:
    """Read one YAML mapping.

    Raises:
        ConfigError: if the file is missing, is not YAML or does not hold a mapping.
    """
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: must hold 'key: value' settings, not a {type(tree).__name__}.")
    return tree


def find_preset(name: str, group: str = "") -> Path:
    """Return the file of a preset given by name or by path.

    Raises:
        ConfigError: if there is neither a file nor a preset of that name.
        PluginError: if the preset is another package's and cannot be used.
    """
    if _is_path(name):
        if Path(name).is_file():
            return Path(name)
        raise ConfigError(
            f"{name}: there is no such settings file.",
            hint="Give a path to a YAML file or a preset's name.",
        )
    if name in _files(group):
        _OTHERS[group].warn_if_hidden(name)
        return Path(str(_folder(group).joinpath(f"{name}.yaml")))
    if name not in _OTHERS[group].names:
        kind = f"{group} preset" if group else "preset"
        raise ConfigError(unknown(kind, name, preset_names(group)))
    return _OTHERS[group].find(name).file(f"{name}.yaml")


def load_preset(name: str) -> Tree:
    """Read a run preset and everything it extends, its model resolved to a mapping.

    Raises:
        ConfigError: if a file is missing or not YAML, or presets extend each other in a circle.
    """
    return _load(name, seen=())


def compose(base: Tree, changes: Tree) -> Tree:
    """Lay ``changes`` over ``base``; a model named in ``changes`` replaces the base's model."""
    model = changes.get("model")
    if isinstance(model, str):
        model = {"preset": model}
    if isinstance(model, Mapping) and "preset" in model:
        own = {key: value for key, value in model.items() if key != "preset"}
        named = read_model_preset(str(model["preset"]))
        base = {key: value for key, value in base.items() if key != "model"}
        changes = {**changes, "model": merge(named, own)}
    return merge(base, changes)


def _load(name: str, seen: tuple[str, ...]) -> Tree:
    file = find_preset(name)
    tree = _anchor(read_yaml(file), file.parent)
    parent = tree.pop("extends", None)
    if parent is None:
        return compose({}, tree)
    if not isinstance(parent, str):
        raise ConfigError(f"{name}: extends must be one preset's name or path, got {parent!r}.")
    chain = (*seen, str(file.resolve()))
    if str(find_preset(parent).resolve()) in chain:
        names = " -> ".join([*(Path(part).stem for part in chain), Path(parent).stem])
        raise ConfigError(f"{name}: presets extend each other in a circle: {names}.")
    return compose(_load(parent, chain), tree)


def _anchor(tree: Tree, folder: Path) -> Tree:
    """Make the paths in ``extends`` and ``model`` that are relative to the file usable anywhere."""
    anchored = dict(tree)
    for key in ("extends", "model"):
        anchored[key] = _beside(tree.get(key), folder)
    model = tree.get("model")
    if isinstance(model, Mapping) and "preset" in model:
        anchored["model"] = {**model, "preset": _beside(model["preset"], folder)}
    return {key: value for key, value in anchored.items() if key in tree}


def _beside(name: Any, folder: Path) -> Any:
    beside = isinstance(name, str) and _is_path(name) and (folder / name).is_file()
    return str(folder / name) if beside else name


def _is_path(name: str) -> bool:
    return Path(name).suffix in {".yaml", ".yml"} or len(Path(name).parts) > 1


def _files(group: str) -> tuple[str, ...]:
    """Names of the YAML files of a group."""
    found = (entry.name for entry in _folder(group).iterdir() if entry.is_file())
    return tuple(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def _has_file(name: str, group: str) -> bool:
    return name in _files(group) or name in _OTHERS[group].names


def _folder(group: str) -> Traversable:
    root = files("medseg_nca.configs")
    return root.joinpath(group) if group else root
