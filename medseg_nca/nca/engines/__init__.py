"""Engines: ways to compute a roll-out that differ in speed and memory only."""

from __future__ import annotations

from medseg_nca.config.engines import AUTO, ENGINES
from medseg_nca.nca.engines.base import Engine


def get_engine(name: str = AUTO) -> Engine:
    """Return an engine by name; "auto" takes the fastest that serves a roll-out.

    Raises:
        ConfigError: if there is no engine of that name.
        PluginError: if the engine belongs to another package and cannot be used.
    """
    engine: Engine = ENGINES.get(name)
    return engine


__all__ = ["ENGINES", "Engine", "get_engine"]
