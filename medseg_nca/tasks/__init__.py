"""What an automaton is trained for. The training loop knows only the interface in ``base``."""

from __future__ import annotations

from medseg_nca.errors import ConfigError
from medseg_nca.registry import ModuleRegistry
from medseg_nca.tasks.base import ConstantAnswer, Task, Validation

_PARTS = ("base", "constant", "pictures", "samples", "targets")
TASKS = ModuleRegistry(__name__, "TASK", "task", exclude=_PARTS, error=ConfigError)

__all__ = ["TASKS", "ConstantAnswer", "Task", "Validation"]
