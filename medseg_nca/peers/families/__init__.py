"""One module for each family of published automata; ``base.py`` is their seam."""

from __future__ import annotations

from typing import Any

from medseg_nca.errors import ConfigError
from medseg_nca.registry import PluginRegistry

_PARTS = ("title", "recognises", "asks", "published", "convert")


def _is_family(found: Any) -> bool:
    """Whether an object has the parts of :class:`medseg_nca.peers.families.base.Family`."""
    return all(hasattr(found, part) for part in _PARTS)


FAMILIES = PluginRegistry(
    "medseg_nca.peers.families",
    "medseg_nca.peers",
    "FAMILY",
    "family",
    fits=_is_family,
    error=ConfigError,
)
