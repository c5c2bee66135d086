"""A study: the trials of one search, and what all of them have in common."""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from medseg_nca.errors import ConfigError
from medseg_nca.search.check import directions_of, has_curve
from medseg_nca.search.storage import SearchStorage
from medseg_nca.suggest import nearest

logger = logging.getLogger(__name__)

# Attributes of a study besides its facts: how many trials it has, its run in MLflow, and a text
# that no other study has, by which run folders are told from those of another study.
TRIALS, TRACKED, IDENTITY = "trials", "mlflow_run", "identity"
# Facts without which what a storage holds is no study of a search, or is not made yet.
_NEEDED = ("objectives", "space", "settings", "budget")
# Seconds that the process which makes a study may take for its trials.
_MAKING = 20.0
# The pruner lets a trial alone before this percentage of its budget, and where fewer others than
# this have been validated at the same percentage.
_UNPRUNED, _LEAST_COMPARED = 25, 2
_MOST_STARTUP, _LEAST_STARTUP = 10, 3


@dataclass(frozen=True)
class StudyFacts:
    """What all trials of a study have in common; two studies that differ in it are not compared.

    Attributes:
        config: the name of the preset or file that the search began with.
        task: what is learned.
        data_sha256: hash of the cases of the training and validation parts.
        split_sha256: hash of the sides of the split.
        folds: number of folds that a trial trains; 1 without a cross-validation.
        objectives: names of the objectives, in the order of the study's directions.
        budget: in words, how long a trial trains.
        space: the values of each setting, as a space file writes them.
        settings: the settings that a trial begins from.
        steps: unit of the steps of a validation curve.
    """

    config: str
    task: str
    data_sha256: str
    split_sha256: str
    folds: int
    objectives: tuple[str, ...]
    budget: str
    space: Mapping[str, Any]
    settings: Mapping[str, Any]
    steps: str = "percent of the budget"


# What each fact is called in a message; the name of the preset alone decides nothing.
_WORDS = {
    "task": "another task",
    "split_sha256": "another split, or of cases with other names",
    "data_sha256": "another data set",
    "folds": "another number of folds",
    "objectives": "other objectives",
    "space": "another space",
    "budget": "another budget",
    "settings": "other settings",
}


def join_study(
    storage: SearchStorage, name: str, facts: StudyFacts, trials: int, first: Mapping[str, Any]
) -> bool:
    """Make a study with its trials, which wait for workers, or go on with the one that is there.

    Args:
        storage: where the study is.
        name: name of the study.
        facts: what its trials have in common.
        trials: number of trials; a study that has fewer gets the missing ones.
        first: the values that the first trial tries, by key; others are drawn.

    Returns:
        Whether the study is new.

    Raises:
        ConfigError: if the study has other facts; the message says which.
    """
    plain = {**_plain(facts), IDENTITY: uuid.uuid4().hex}
    try:
        study = storage.call(lambda: _created(storage, name, facts))
        new = True
    except DuplicatedStudyError:
        study = storage.call(lambda: optuna.load_study(study_name=name, storage=storage.rdb))
        new = False
        _wait_for_trials(storage, study)
        known = storage.call(lambda: study.user_attrs)
        _check_same(storage, name, plain, known)
        plain = {key: value for key, value in plain.items() if key not in known}
    # Whoever made the study may have been killed before it had all.
    for key, value in plain.items():
        storage.call(lambda key=key, value=value: study.set_user_attr(key, value))  # type: ignore[misc]
    _add_trials(storage, study, trials, first)
    return new


def check_study(storage: SearchStorage, name: str, facts: StudyFacts) -> None:
    """Compare facts with those of the study that is there, if there is one; changes nothing.

    Args:
        storage: where the study may be.
        name: name of the study.
        facts: what its trials would have in common; a hash that is "" is not known yet.

    Raises:
        ConfigError: if the study has other facts; the message says which.
    """
    if name in storage.call(lambda: optuna.get_all_study_names(storage.rdb)):
        study = storage.call(lambda: optuna.load_study(study_name=name, storage=storage.rdb))
        _check_same(storage, name, _plain(facts), storage.call(lambda: study.user_attrs))


def wanted_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials of a study in their order.

    Two commands that add trials at the same time may add one too many; it waits for nobody, and is
    left out.
    """
    trials: list[FrozenTrial] = study.get_trials(deepcopy=False)
    number = study.user_attrs.get(TRIALS, len(trials))
    return [t for t in trials if t.number < number or t.state != TrialState.WAITING]


def find_study(storage: SearchStorage, name: str | None = None) -> Study:
    """Return a study of a storage; without a name the only one.

    Raises:
        ConfigError: if there is no such study, it was not made by a search, or the name is missing
            where there are several.
    """
    names = storage.call(lambda: optuna.get_all_study_names(storage.rdb))
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        if not names:
            raise ConfigError(f"{storage.name}: holds no study yet.")
        shown = ", ".join(sorted(names))
        if name is None:
            raise ConfigError(f"{storage.name}: holds several studies: {shown}.",
                              hint="Name one with --study.")  # fmt: skip
        guess = nearest(name, names)
        question = f"; did you mean {guess!r}?" if guess else "."
        raise ConfigError(f"{storage.name}: holds no study {name!r}{question} It holds: {shown}.")
    found: Study = storage.call(lambda: optuna.load_study(study_name=name, storage=storage.rdb))
    known = storage.call(lambda: found.user_attrs)
    if any(key not in known for key in _NEEDED):
        raise ConfigError(
            f"{storage.name}: the study {name!r} was made by another program, or is not made to "
            "its end.",
            hint="If `medseg-nca search` began it, the same command goes on and makes the rest.",
        )
    return found


def study_for_trial(storage: SearchStorage, name: str, seed: int, number: int) -> Study:
    """Return a study whose sampler draws the values of one trial, from the trials before it."""
    study: Study = storage.call(lambda: optuna.load_study(study_name=name, storage=storage.rdb))
    attributes = storage.call(lambda: study.user_attrs)
    trials = int(attributes.get(TRIALS, _MOST_STARTUP))
    startup = min(max(trials // 3, _LEAST_STARTUP), _MOST_STARTUP)
    # Optuna's cache knows a trial only once it has read them.
    storage.call(lambda: study.get_trials(deepcopy=False))
    digest = hashlib.sha256(f"search {seed} {number}".encode()).digest()
    own = int.from_bytes(digest[:4], "big")
    study.sampler = TPESampler(seed=own, n_startup_trials=startup, constant_liar=True)
    study.pruner = _pruner(attributes.get("objectives", ()), trials)
    return study


def _pruner(objectives: Sequence[str], trials: int) -> BasePruner:
    if not has_curve(objectives):
        return NopPruner()
    compared = min(max(trials // 4, 2), 5)
    return MedianPruner(
        n_startup_trials=compared, n_warmup_steps=_UNPRUNED, n_min_trials=_LEAST_COMPARED
    )


def _add_trials(
    storage: SearchStorage, study: Study, trials: int, first: Mapping[str, Any]
) -> None:
    """Add the trials that are missing; another command may do the same now."""

    def there() -> int:
        return len(storage.call(lambda: study.get_trials(deepcopy=False)))

    if (before := storage.call(lambda: study.user_attrs).get(TRIALS, 0)) > trials:
        logger.warning(
            "The study %s has %d trials already; --trials %d takes none away.",
            study.study_name, before, trials,
        )  # fmt: skip
    while (number := there()) < trials:
        values = dict(first) if number == 0 else {}
        storage.call(lambda values=values: study.enqueue_trial(values))  # type: ignore[misc]
    while storage.call(lambda: study.user_attrs).get(TRIALS, 0) < trials:
        storage.call(lambda: study.set_user_attr(TRIALS, trials))


def _created(storage: SearchStorage, name: str, facts: StudyFacts) -> Study:
    study: Study = optuna.create_study(
        storage=storage.rdb, study_name=name, directions=directions_of(facts.objectives)
    )
    return study


def _wait_for_trials(storage: SearchStorage, study: Study) -> None:
    """Wait until the process that makes the study has added its trials, unless it was killed."""
    end = time.monotonic() + _MAKING
    while TRIALS not in storage.call(lambda: study.user_attrs) and time.monotonic() < end:
        time.sleep(0.2)


def _check_same(
    storage: SearchStorage, name: str, own: Mapping[str, Any], there: Mapping[str, Any]
) -> None:
    for key, words in _WORDS.items():
        if key not in there or there[key] == own[key] or own[key] == "":
            continue
        raise ConfigError(
            f"{storage.name}: holds the study {name!r} of {words}: "
            f"{_difference(there[key], own[key])}.",
            hint="Give another --out, or another name with --study; or repeat the command that "
            "the study was begun with.",
        )


def _difference(there: Any, own: Any, prefix: str = "") -> str:
    """Say where two values differ; of two mappings the first key."""
    if isinstance(there, Mapping) and isinstance(own, Mapping):
        for key in sorted({*there, *own}):
            if there.get(key) != own.get(key):
                return _difference(there.get(key), own.get(key), f"{prefix}{key}.")
    name = f"{prefix.rstrip('.')} is " if prefix else ""
    return f"{name}{_short(there)} there, and {_short(own)} here"


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "not set" if value is None else text if len(text) <= 80 else f"{text[:12]}…"


def _plain(facts: StudyFacts) -> dict[str, Any]:
    """Return the facts as a storage gives them back: lists in the place of tuples."""
    tree = asdict(facts)
    tree["objectives"] = list(facts.objectives)
    return tree
