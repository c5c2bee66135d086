"""Load a model of any task from the folder of its two files."""

from __future__ import annotations

from pathlib import Path

from medseg_nca.config.bounds import plain
from medseg_nca.config.engines import AUTO
from medseg_nca.errors import ConfigError, ModelError
from medseg_nca.inference.spec import SPEC
from medseg_nca.inference.task_model import task_of
from medseg_nca.tasks import TASKS, Task
from medseg_nca.tasks.base import Description, TrainedModel


def load_folder(folder: Path, device: str = "auto", engine: str = AUTO) -> TrainedModel:
    """Load a model of any task from the folder of its two files.

    Args:
        folder: folder of the two files.
        device: "auto", "cpu", "cuda" or "cuda:N".
        engine: as :meth:`medseg_nca.tasks.base.Task.load` takes it.

    Raises:
        ModelError: if they are missing or damaged, or the task is unknown.
        ConfigError, DependencyError: if there is no such engine, or it cannot compute the model.
    """
    model: TrainedModel = find_task(folder).load(folder, device, engine)
    return model


def read_folder(folder: Path) -> Description:
    """Read the ``model.json`` of a model of any task; the files are checked, nothing is built.

    Raises:
        ModelError: if they are missing or damaged, or the task is unknown.
    """
    description: Description = find_task(folder).read(folder)
    return description


def find_task(folder: Path) -> Task:
    """Return the task that a model belongs to.

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
