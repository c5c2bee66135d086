"""The engines by name. This module needs no torch, so a name can be checked before any work."""

from __future__ import annotations

from typing import Any

from medseg_nca.errors import ConfigError
from medseg_nca.registry import PluginRegistry

# The engine that a run takes if none is named: the fastest one that serves each roll-out.
AUTO = "auto"
_PARTS = ("roll_out", "roll_out_living", "refuses", "unusable", "bytes_per_cell", "rank", "devices")


def _is_engine(found: Any) -> bool:
    """Whether an object has the parts of :class:`medseg_nca.nca.engines.base.Engine`."""
    return all(hasattr(found, part) for part in _PARTS)


ENGINES = PluginRegistry(
    "medseg_nca.nca.engines",
    "medseg_nca.engines",
    "ENGINE",
    "engine",
    fits=_is_engine,
    error=ConfigError,
)
