"""Look at what a trained automaton does over time."""

from __future__ import annotations

from medseg_nca.dynamics.subject import Subject, SubjectRequest
from medseg_nca.tasks import TASKS, Task


def open_subject(request: SubjectRequest) -> Subject:
    """Let the model's task offer the model and its cases to the probes.

    Raises:
        ConfigError: if the task offers nothing to probes, or a setting does not fit.
        DataError: if there are no such cases.
    """
    task: Task = TASKS.get(request.model.spec.task)
    return task.subject(request)
