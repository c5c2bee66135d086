"""The tasks that an automaton is trained for, one folder each; ``base`` defines the interface."""

from __future__ import annotations

from medseg_nca.errors import ConfigError
from medseg_nca.registry import PluginRegistry
from medseg_nca.tasks.base import Task

TASKS = PluginRegistry(
    __name__,
    "medseg_nca.tasks",
    "TASK",
    "task",
    fits=lambda found: isinstance(found, Task),
    error=ConfigError,
)

__all__ = ["TASKS", "Task"]
