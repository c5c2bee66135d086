"""What came of the trials of a study: the best ones, and a description of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from medseg_nca.errors import ConfigError
from medseg_nca.search.dimension import Dimension, dimension

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def values_of(trial: FrozenTrial, objectives: Sequence[str]) -> dict[str, float]:
    """Return the value of each objective of a trial that is complete; else nothing."""
    if trial.state != TrialState.COMPLETE or trial.values is None:
        return {}
    return dict(zip(objectives, trial.values, strict=True))


def pareto_front(study: Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the complete trials that no other surpasses in every objective.

    The best one by the first objective comes first. With one objective there is one such trial, of
    equal ones the first.
    """
    signs = [1 if direction == StudyDirection.MAXIMIZE else -1 for direction in study.directions]

    def merits(trial: FrozenTrial) -> list[float]:
        return [sign * value for sign, value in zip(signs, trial.values, strict=True)]

    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    ordered = sorted(complete, key=lambda t: ([-m for m in merits(t)], t.number))
    front: list[FrozenTrial] = []
    for trial in ordered:
        own = merits(trial)
        if not any(all(a >= b for a, b in zip(merits(t), own, strict=True)) for t in front):
            front.append(trial)
    return front


def chosen_trial(study: Study, number: int | None) -> FrozenTrial:
    """Return a trial that is complete: the one of a number, or the best.

    Raises:
        ConfigError: if there is no such trial.
    """
    trials = study.get_trials(deepcopy=False)
    front = pareto_front(study, trials)
    if not front:
        raise ConfigError(
            f"The study {study.study_name} has no complete trial yet.",
            hint="Look at them with `medseg-nca search status`.",
        )
    if number is None:
        return front[0]
    found = next((trial for trial in trials if trial.number == number), None)
    if found is None or found.state != TrialState.COMPLETE:
        word = "is not there" if found is None else f"is {STATES[found.state]}"
        shown = ", ".join(str(trial.number) for trial in front)
        raise ConfigError(
            f"--trial {number}: the trial {word}.",
            hint=f"Take one that is complete; the best: {shown}.",
        )
    return found


def space_of(study: Study) -> dict[str, Dimension]:
    """Return the dimensions of a study by key."""
    tree: Mapping[str, Any] = study.user_attrs["space"]
    return {key: dimension(key, spec, study.study_name) for key, spec in tree.items()}


def settings_values(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """Return the values of a trial as the settings take them, by key."""
    space = space_of(study)
    return {key: space[key].decoded(value) for key, value in trial.params.items()}


def describe_trial(trial: FrozenTrial, objectives: Sequence[str]) -> dict[str, Any]:
    """Return the plain values that ``--json`` prints of a trial."""
    return {
        "trial": trial.number,
        "state": STATES[trial.state],
        "values": values_of(trial, objectives),
        "params": dict(trial.params),
        "last": trial.intermediate_values[trial.last_step] if trial.last_step is not None else None,
        "parameters": trial.user_attrs.get("parameters"),
        "seconds": trial.user_attrs.get("seconds"),
        "run": trial.user_attrs.get("run"),
        "error": trial.user_attrs.get("error"),
    }
