"""Artificial faults of images, one file each; the file's name is the corruption's name."""

from __future__ import annotations

from medseg_nca.errors import ConfigError
from medseg_nca.registry import PluginRegistry
from medseg_nca.trust.corruptions.base import STRENGTHS, Corruption, corrupted, fault_seed

CORRUPTIONS = PluginRegistry(
    __name__,
    "medseg_nca.corruptions",
    "CORRUPTION",
    "corruption",
    fits=lambda found: isinstance(found, Corruption),
    error=ConfigError,
)

__all__ = ["CORRUPTIONS", "STRENGTHS", "Corruption", "corrupted", "fault_seed"]
