"""Settings that may be left to the data: "auto" in a preset, a settings file or ``--set``.

Two kinds. ``preprocess.*`` and ``model.levels`` hold the word itself until the plan of the data set
is made. Those of :data:`LEFT_TO_RECIPE` are numbers and lists for all who use them: in a file they
read "auto", in Python :class:`~medseg_nca.config.run.RunSettings` remembers that they are undecided
and holds the default of the field meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from medseg_nca.config.presets import Tree, merge

AUTO = "auto"
# Decided by ``medseg_nca.recipe`` from the data, the minutes and the machine.
LEFT_TO_RECIPE = (
    "model.cell.channels",
    "model.cell.update.hidden",
    "training.iterations",
    "training.batch_size",
    "training.optimiser",
    "training.lr",
    "training.warmup",
    "training.validate_every",
    "training.validate_cases",
    "training.checkpoint_every",
    "training.workers",
    "augment.flip_axes",
    "augment.rotate90",
)
# Decided by the plan of the data set.
LEFT_TO_PLAN = (
    "preprocess.spacing",
    "preprocess.crop",
    "preprocess.colour",
    "preprocess.normalise",
    "preprocess.crop_size",
    "model.levels",
)


class OrAuto:
    """Marks a field of :data:`LEFT_TO_RECIPE`: its JSON schema allows "auto" too."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The field's own schema, or the word."""
        return {"anyOf": [handler(schema), {"const": AUTO}]}


def value_at(tree: Mapping[str, Any], key: str) -> Any:
    """The value of ``a.b.c``; raises KeyError where the tree has none."""
    found: Any = tree
    for part in key.split("."):
        if not isinstance(found, Mapping):
            raise KeyError(key)
        found = found[part]
    return found


def has_key(tree: Mapping[str, Any], key: str) -> bool:
    """Whether the tree has a value at ``a.b.c``."""
    try:
        value_at(tree, key)
    except KeyError:
        return False
    return True


def says_auto(tree: Mapping[str, Any], key: str) -> bool:
    """Whether the tree has the word at ``a.b.c``."""
    return has_key(tree, key) and bool(value_at(tree, key) == AUTO)


def tree_of(key: str, value: Any) -> Tree:
    """``{"a": {"b": value}}`` for ``a.b``."""
    tree: Any = value
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return tree  # type: ignore[no-any-return]


def without(tree: Mapping[str, Any], key: str) -> Tree:
    """The tree without its value at ``a.b.c``, which must exist."""
    first, _, rest = key.partition(".")
    if not rest:
        return {name: value for name, value in tree.items() if name != first}
    return {**tree, first: without(tree[first], rest)}


def leave_unnamed(tree: Tree) -> Tree:
    """Say "auto" for what the recipe can decide and the tree does not name."""
    for key in LEFT_TO_RECIPE:
        if key.startswith("model.") and not _is_automaton(tree):
            continue
        if _is_free(tree, key):
            tree = merge(tree, tree_of(key, AUTO))
    return tree


def _is_automaton(tree: Mapping[str, Any]) -> bool:
    model = tree.get("model")
    return isinstance(model, Mapping) and model.get("family") == "nca"


def _is_free(tree: Mapping[str, Any], key: str) -> bool:
    """Whether the tree says nothing of a key. A value where a mapping belongs is an error later."""
    found: Any = tree
    for part in key.split("."):
        if not isinstance(found, Mapping):
            return False
        if part not in found:
            return True
        found = found[part]
    return False
