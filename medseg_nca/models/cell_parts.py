"""List what a cell can be built of: perceptions, update rules, and options around a step."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import NamedTuple, get_args

from medseg_nca.config.model import CELL_OPTIONS, CellSettings
from medseg_nca.config.parts import PERCEPTIONS, UPDATE_RULES
from medseg_nca.registry import PluginRegistry

_SETTINGS = {"model.cell.perception.kind": PERCEPTIONS, "model.cell.update.kind": UPDATE_RULES}


class PartDescription(NamedTuple):
    """Something that a cell can be built of.

    Attributes:
        setting: the setting that asks for it.
        name: the value of that setting; of an option, its name.
        settings: names of further settings that it reads, its params with their defaults.
        what: what it is; of a part of another package, which package that is.
    """

    setting: str
    name: str
    settings: str
    what: str


def list_parts() -> list[PartDescription]:
    """Return all parts and options. Parts of other packages are named and not imported."""
    found = [part for setting, kind in _SETTINGS.items() for part in _parts(setting, kind)]
    return [*found, *(_option(name) for name in CELL_OPTIONS)]


def _parts(setting: str, registry: PluginRegistry) -> Iterator[PartDescription]:
    for name in registry.names:
        if name not in registry.own_names:
            packages = " and ".join(entry.package for entry in registry.others.claims(name))
            yield PartDescription(setting, name, "", f"of the package {packages}")
            continue
        part = registry.get(name)
        signature = inspect.signature(part).parameters.values()
        params = [
            p.name if p.default is p.empty else f"{p.name}={p.default}"
            for p in signature
            if p.kind is p.KEYWORD_ONLY
        ]
        reads = [*sorted(part.reads), *(f"params.{param}" for param in params)]
        yield PartDescription(setting, name, ", ".join(reads), _line(sys.modules[part.__module__]))


def _option(name: str) -> PartDescription:
    settings = next(
        kind
        for kind in get_args(CellSettings.model_fields[name].annotation)
        if kind is not type(None)
    )
    return PartDescription(
        f"model.cell.{name}", name, ", ".join(settings.model_fields), _line(settings)
    )


def _line(documented: object) -> str:
    """The first line of a docstring, without marks of code."""
    text = (inspect.getdoc(documented) or "").partition("\n")[0]
    return text.replace("``", "")
