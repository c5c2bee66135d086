"""The probes of ``medseg-nca dynamics``, one file each; the file's name is the probe's name."""

from __future__ import annotations

from medseg_nca.dynamics.probes.base import Probe
from medseg_nca.errors import ConfigError
from medseg_nca.registry import PluginRegistry

PROBES = PluginRegistry(
    __name__,
    "medseg_nca.probes",
    "PROBE",
    "probe",
    fits=lambda found: isinstance(found, Probe),
    error=ConfigError,
)

__all__ = ["PROBES", "Probe"]
