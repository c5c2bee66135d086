"""What an automaton is trained for. The training loop knows only the interface in ``base``."""

from __future__ import annotations

from medseg_nca.errors import ConfigError
from medseg_nca.registry import PluginRegistry
from medseg_nca.tasks.base import ConstantAnswer, Task, Validation

TASKS = PluginRegistry(__name__, "medseg_nca.tasks", "TASK", "task", error=ConfigError)

__all__ = ["TASKS", "ConstantAnswer", "Task", "Validation"]
