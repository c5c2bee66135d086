"""Read a study of Optuna for its report: trials as plain values, and what each setting matters."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from medseg_nca.viz.search_importance import Importance
from medseg_nca.viz.search_study import ObjectiveView, ParameterView, StudyView, TrialView
from medseg_nca.viz.search_study import TrialState as Word

STATES: Mapping[TrialState, Word] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
CAPTIONS = {"dice": "Dice", "latency_ms": "latency (ms)", "parameters": "parameters"}
# Fewer complete trials say nothing of the importance of settings.
LEAST_FOR_IMPORTANCE = 10
# How many of the best trials are compared with all: this share, and this number if there are as
# many trials (the documentation of Optuna asks for five).
_BEST_SHARE, _BEST_NUMBER, _MOST_SHARE = 0.1, 5, 0.5
_SHUFFLES = 40


def view_of(study: Study) -> StudyView:
    """Return the study as the figures need it.

    A complete trial one of whose values is not a finite number counts as failed.
    """
    trials = study.get_trials(deepcopy=False)
    return StudyView(_objectives(study), _parameters(trials), [_trial(trial) for trial in trials])


def importances(study: Study, view: StudyView) -> list[Importance] | str:
    """Return the importances of the settings for each objective, or why there are none.

    PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255): how different the values of a setting are
    in the best trials from those in all complete ones. What chance reaches is the 95th percentile
    over shuffled scores.
    """
    complete = view.of_state("complete")
    if not view.parameters:
        return "The importance of settings is not told: no setting is varied."
    if len(complete) < LEAST_FOR_IMPORTANCE:
        return (
            f"The importance of settings is not told: it needs {LEAST_FOR_IMPORTANCE} complete "
            f"trials, and there are {len(complete)}."
        )
    found = []
    for place, objective in enumerate(view.objectives):
        scores = [(trial.values or ())[place] for trial in complete]
        sign = -1 if objective.maximise else 1
        costs = {t.number: sign * score for t, score in zip(complete, scores, strict=True)}
        importance = _importance(study, view, costs)
        if importance is None:
            return (
                "The importance of settings is not told: the best trials cannot be set apart from "
                f"the others by their {objective.caption}."
            )
        found.append(importance)
    return found


def _objectives(study: Study) -> list[ObjectiveView]:
    """The objectives by the names that the search gave them; others number theirs."""
    directions = study.directions
    names = study.user_attrs.get("objectives")
    if not isinstance(names, list | tuple) or len(names) != len(directions):
        many = len(directions) > 1
        names = [f"objective {n + 1}" if many else "score" for n in range(len(directions))]
    return [
        ObjectiveView(
            str(name), CAPTIONS.get(str(name), str(name).replace("_", " ")),
            direction == StudyDirection.MAXIMIZE,
        )
        for name, direction in zip(names, directions, strict=True)
    ]  # fmt: skip


def _parameters(trials: Sequence[FrozenTrial]) -> list[ParameterView]:
    """Every setting that a trial has, in the order in which they first appear."""
    ranges: dict[str, list[BaseDistribution]] = {}
    values: dict[str, list[Any]] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            known = ranges.setdefault(name, [])
            if distribution not in known:
                known.append(distribution)
            values.setdefault(name, []).append(trial.params[name])
    return [_parameter(name, known, values[name]) for name, known in ranges.items()]


def _parameter(
    name: str, ranges: Sequence[BaseDistribution], values: Sequence[Any]
) -> ParameterView:
    """A setting over all the ranges that the search has had for it."""
    if any(isinstance(found, CategoricalDistribution) for found in ranges):
        listed = [c for r in ranges for c in getattr(r, "choices", ())]
        choices = tuple(dict.fromkeys(str(choice) for choice in (*listed, *values)))
        return ParameterView(name, 0, len(choices) - 1, choices=choices)
    low = float(min(found.low for found in ranges))
    high = float(max(found.high for found in ranges))
    log = low > 0 and any(getattr(found, "log", False) for found in ranges)
    whole = all(isinstance(found, IntDistribution) for found in ranges)
    return ParameterView(name, low, high, log=log, integer=whole)


def _trial(trial: FrozenTrial) -> TrialView:
    state = STATES[trial.state]
    values = tuple(float(value) for value in trial.values or ())
    known = state == "complete" and all(math.isfinite(value) for value in values)
    curve = sorted(trial.intermediate_values.items())
    return TrialView(
        trial.number,
        "failed" if state == "complete" and not known else state,
        values if known else None,
        dict(trial.params),
        tuple((step, float(value)) for step, value in curve if math.isfinite(value)),
    )


def _importance(study: Study, view: StudyView, costs: Mapping[int, float]) -> Importance | None:
    """The importances for what is to be small; None if all trials are as good."""
    share = min(max(_BEST_NUMBER / len(costs), _BEST_SHARE), _MOST_SHARE)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=share)
    counts = {p.name: sum(p.name in t.params for t in view.of_state("complete"))
              for p in view.parameters}  # fmt: skip
    names = [name for name, count in counts.items() if count >= LEAST_FOR_IMPORTANCE]
    raw = _divergences(study, names, evaluator, costs)
    total = sum(raw.values())
    if len(set(costs.values())) < 2 or total <= 0:
        return None
    rng = np.random.default_rng(0)
    numbers, shuffled = list(costs), []
    for _ in range(_SHUFFLES):
        order = rng.permutation(list(costs.values())).tolist()
        shuffled.append(
            _divergences(study, names, evaluator, dict(zip(numbers, order, strict=True)))
        )
    chance = {name: float(np.quantile([s[name] for s in shuffled], 0.95)) for name in raw}
    return Importance(
        {name: value / total for name, value in raw.items()},
        {name: value / total for name, value in chance.items()},
        len(costs),
        [name for name in counts if name not in names],
    )


def _divergences(
    study: Study, names: list[str], evaluator: PedAnovaImportanceEvaluator,
    costs: Mapping[int, float],
) -> dict[str, float]:  # fmt: skip
    def target(trial: FrozenTrial) -> float:
        return costs.get(trial.number, math.nan)

    with warnings.catch_warnings():
        # They say that small targets count as good, and that `normalize` may change.
        warnings.simplefilter("ignore")
        found: dict[str, float] = get_param_importances(
            study, evaluator=evaluator, params=names, target=target, normalize=False
        )
    return found
