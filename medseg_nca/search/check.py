"""Check a search before any work: every key, and the ends of every range."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from medseg_nca.config import RunSettings
from medseg_nca.errors import ConfigError, DependencyError
from medseg_nca.search.space import Space, check_keys, with_values
from medseg_nca.suggest import unknown

if TYPE_CHECKING:
    from medseg_nca.tasks.base import Task

LATENCY, PARAMETERS = "latency_ms", "parameters"
# What stands for the name of the task's own score.
SCORE = "score"


def check_packages() -> None:
    """Find out whether a search can be started.

    Raises:
        DependencyError: if Optuna is not installed.
    """
    if find_spec("optuna") is None:
        raise DependencyError(
            "A search needs the package optuna, which is not installed.",
            hint="pip install 'medseg-nca[search]'",
        )


def check_space(settings: RunSettings, space: Space, task: Task) -> None:
    """Try both ends of every range and every choice, each with the other settings as they are.

    Raises:
        ConfigError: if a key is unknown (the nearest is named), a search may not change it, or the
            settings do not allow a value; the message names the key.
    """
    check_keys(space)
    for dim in space:
        for value in dim.extremes:
            try:
                task.checked(with_values(settings, {dim.key: value}, "The space"))
            except ConfigError as error:
                hint = error.hint or f"{dim.key} was given the value {value}."
                raise ConfigError(error.message, hint=hint) from error


def score_name(task: Task) -> str:
    """Return the name of the task's score as an objective, such as "dice"."""
    return task.score.lower().replace(" ", "_")


def objectives_of(names: Sequence[str], task: Task) -> tuple[str, ...]:
    """Return the objectives of a search, the task's score first if none is named.

    Args:
        names: "latency_ms", "parameters", "score" or the name of the task's score.
        task: what is learned.

    Raises:
        ConfigError: if a name is unknown or is given twice; the message names the nearest.
    """
    own = score_name(task)
    known = (own, LATENCY, PARAMETERS)
    found: list[str] = []
    for name in names or (own,):
        full = own if name.lower() == SCORE else name.lower().replace(" ", "_")
        if full not in known:
            raise ConfigError(f"--objective: {unknown('objective', name, known)}")
        if full in found:
            raise ConfigError(f"--objective: {full} is named twice.")
        found.append(full)
    return tuple(found)


def has_curve(objectives: Sequence[str]) -> bool:
    """Return whether trials are compared by their validation curves, and may be pruned.

    The curve is that of the task's score, so it says nothing of another objective; and of several
    objectives Optuna prunes no trial.
    """
    return len(objectives) == 1 and objectives[0] not in (LATENCY, PARAMETERS)


def directions_of(objectives: Sequence[str]) -> list[str]:
    """Return for each objective whether more or less is better, as Optuna says it."""
    less = (LATENCY, PARAMETERS)
    return ["minimize" if name in less else "maximize" for name in objectives]
