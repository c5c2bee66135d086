"""Engines: ways to compute a roll-out that differ in speed and memory only."""

from __future__ import annotations

from medseg_nca.errors import ConfigError
from medseg_nca.nca.engines.base import Engine
from medseg_nca.registry import PluginRegistry

ENGINES = PluginRegistry(
    __name__,
    "medseg_nca.engines",
    "ENGINE",
    "engine",
    fits=lambda found: isinstance(found, Engine),
    error=ConfigError,
)


def get_engine(name: str = "auto") -> Engine:
    """Return an engine by name; "auto" takes the fastest that serves a roll-out.

    Raises:
        ConfigError: if there is no engine of that name.
    """
    engine: Engine = ENGINES.get(name)
    return engine


__all__ = ["ENGINES", "Engine", "get_engine"]
