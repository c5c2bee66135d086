"""What an automaton is trained for. The training loop knows only the interface in ``base``."""

from __future__ import annotations

from medseg_nca.errors import ConfigError
from medseg_nca.registry import ModuleRegistry
from medseg_nca.tasks.base import Task, Validation

TASKS = ModuleRegistry(
    __name__, "TASK", "task", exclude=("base", "pictures", "samples", "targets"), error=ConfigError
)

__all__ = ["TASKS", "Task", "Validation"]
