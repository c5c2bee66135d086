"""From the folder of a model's two files to the model, whatever its task."""

from __future__ import annotations

from pathlib import Path

from medseg_nca.config.bounds import plain
from medseg_nca.errors import ConfigError, ModelError
from medseg_nca.inference.spec import SPEC
from medseg_nca.inference.task_model import task_of
from medseg_nca.tasks import TASKS, Task
from medseg_nca.tasks.base import Description, TrainedModel


def load_folder(folder: Path, device: str = "auto") -> TrainedModel:
    """Load a model of any task from the folder of its two files.

    Raises:
        ModelError: if they are missing or damaged, or the task is unknown.
    """
    model: TrainedModel = find_task(folder).load(folder, device)
    return model


def read_folder(folder: Path) -> Description:
    """Say what a model of any task is; its files are checked, and it is not built.

    Raises:
        ModelError: if they are missing or damaged, or the task is unknown.
    """
    description: Description = find_task(folder).read(folder)
    return description


def find_task(folder: Path) -> Task:
    """Return the task that a model is of.

    Raises:
        ModelError: if ``model.json`` is missing or damaged, or the task is unknown.
    """
    try:
        task: Task = TASKS.get(plain(task_of(folder)))
    except ConfigError as error:
        raise ModelError(
            f"{folder / SPEC}: {error.message}",
            hint="Install the package that adds the task, or upgrade medseg-nca.",
        ) from error
    return task
