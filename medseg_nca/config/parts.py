"""The parts of a cell by name: perceptions and update rules. This module needs no torch."""

from __future__ import annotations

from typing import Any

from medseg_nca.config.model import CellSettings
from medseg_nca.errors import ConfigError
from medseg_nca.registry import PluginRegistry
from medseg_nca.suggest import unknown


def _is_perception(found: Any) -> bool:
    """Whether an object has what :class:`medseg_nca.nca.perceptions.base.Perception` has."""
    return isinstance(found, type) and hasattr(found, "bank") and hasattr(found, "padded")


def _is_update_rule(found: Any) -> bool:
    """Whether an object has what :class:`medseg_nca.nca.update_rules.base.UpdateRule` has."""
    return isinstance(found, type) and hasattr(found, "two_layers") and hasattr(found, "own_state")


PERCEPTIONS = PluginRegistry(
    "medseg_nca.nca.perceptions", "medseg_nca.perceptions", "PERCEPTION", "perception",
    fits=_is_perception, error=ConfigError,
)  # fmt: skip
UPDATE_RULES = PluginRegistry(
    "medseg_nca.nca.update_rules", "medseg_nca.update_rules", "UPDATE_RULE", "update rule",
    fits=_is_update_rule, error=ConfigError,
)  # fmt: skip


def check_part(registry: PluginRegistry, name: str) -> None:
    """Check that there is a part of a name; nothing is imported.

    Args:
        registry: ``PERCEPTIONS`` or ``UPDATE_RULES``.
        name: the part's registered name.

    Raises:
        ConfigError: if there is none; it names the nearest known part, and what to install.
    """
    if name not in registry.names:
        raise ConfigError(
            unknown(registry.kind, name, registry.names),
            hint=f"If it is a part of another package, install that package here too: it has "
            f"{name!r} among its entry points of {registry.others.group}.",
        )


def check_names(cell: CellSettings) -> None:
    """Check the names of a cell's parts; nothing is imported.

    Raises:
        ConfigError: if there is no such part.
    """
    check_part(PERCEPTIONS, cell.perception.kind)
    check_part(UPDATE_RULES, cell.update.kind)
