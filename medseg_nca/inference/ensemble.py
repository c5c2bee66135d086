"""Ensembles: several models that were trained alike, whose probabilities are averaged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from medseg_nca import __version__
from medseg_nca.config import PreprocessPlan
from medseg_nca.config.bounds import MAX_MEMBERS, short
from medseg_nca.errors import ModelError
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.inference.spec import ENSEMBLE_VERSION, Member, ModelSpec
from medseg_nca.transforms.intensity_likeness import join_intensities

T = TypeVar("T")

# The parts of the spec that all members must have in common, because they are stored once.
_SHARED = ("task", "labels", "plan", "model", "prediction")
# Fields in these parts that may differ: they change no prediction, or one value for all members is
# chosen below.
_FREE = {
    "model": {"engine", "checkpoint", "loss_weight"},
    "plan": {"intensities"},
    "prediction": {"flips", "largest", "memory_budget_gb", "seed"},
}
TWICE = "Name each member once; it would count twice."
_FOLD = re.compile(r"_fold\d+$")


def join_specs(models: Mapping[str, LoadedModel], name: str | None = None) -> ModelSpec:
    """Return the spec of an ensemble of these models.

    If settings may differ, those of the first member are taken. The ensemble keeps only the largest
    part of a label, and averages over flips of an axis, if all members do so, since each member was
    validated on its own cases. It knows the intensities of the training images of all members.

    Args:
        models: the members, by the name that messages use for each.
        name: name of the ensemble; None takes the members' name without their fold.

    Raises:
        ModelError: if there are too few or too many members, one is an ensemble itself, two have
            the same weights, or two do not fit each other. The message names member and field.
    """
    if not 2 <= len(models) <= MAX_MEMBERS:
        raise ModelError(
            f"An ensemble has 2 to {MAX_MEMBERS} members, and there are {len(models)}.",
            hint="Name the run folder of every member.",
        )
    (called, first), *others = ((where, model.spec) for where, model in models.items())
    for where, spec in ((called, first), *others):
        if spec.members:
            raise ModelError(
                f"{where}: is an ensemble already.", hint="Name its members themselves."
            )
    for where, spec in others:
        for part in _SHARED:
            _compare(part, (called, first), (where, spec))
    _refuse_twins(models)
    specs = [first, *(spec for _, spec in others)]
    prediction = first.prediction.changed(
        flips=_agreed(spec.prediction.flip_axes for spec in specs),
        largest=_agreed(spec.prediction.kept_labels for spec in specs),
    )
    return ModelSpec(
        format_version=ENSEMBLE_VERSION,
        name=name or _FOLD.sub("", first.name),
        task=first.task,
        model=first.model,
        labels=first.labels,
        plan=_joined_plan([spec.plan for spec in specs]),
        prediction=prediction,
        seed=first.seed,
        training_data=", ".join(dict.fromkeys(s.training_data for s in specs if s.training_data)),
        training_data_hash=_same([spec.training_data_hash for spec in specs]) or "",
        metrics=_means([spec.metrics for spec in specs]),
        package_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        members=tuple(
            Member(
                name=spec.name, seed=spec.seed, training_data=spec.training_data,
                training_data_hash=spec.training_data_hash, metrics=spec.metrics,
                created=spec.created, weights_sha256=spec.weights_sha256,
            )
            for spec in specs
        ),
    )  # fmt: skip


def _joined_plan(plans: Sequence[PreprocessPlan]) -> PreprocessPlan:
    known = [plan.training for plan in plans if plan.training is not None]
    if not known:
        return plans[0]
    intensities = join_intensities([training.intensities for training in known])
    return plans[0].changed(training=known[0].changed(intensities=intensities))


def _compare(part: str, one: tuple[str, ModelSpec], two: tuple[str, ModelSpec]) -> None:
    trees = [{part: getattr(spec, part)} for _, spec in (one, two)]
    plain = [_plain(tree, _FREE.get(part, set())) for tree in trees]
    found = _difference(*plain)
    if found is None:
        return
    place, first, second = found
    raise ModelError(
        f"{two[0]}: does not fit the other members: its {place} is {short(second)}, that of "
        f"{one[0]} is {short(first)}.",
        hint="Members are trained with the same model on data prepared in the same way, for "
        "example by `medseg-nca train --folds 5`.",
    )


def _plain(value: Any, free: set[str]) -> Any:
    """Return the value as mappings and lists of plain values, without the keys in ``free``."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _plain(item, free) for key, item in value.items() if key not in free}
    return [_plain(item, free) for item in value] if isinstance(value, list) else value


def _difference(one: Any, two: Any, place: str = "") -> tuple[str, Any, Any] | None:
    """Return the first place in which two trees differ and both values there; None if equal."""
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        one, two = dict(enumerate(one)), dict(enumerate(two))
    if not isinstance(one, dict) or not isinstance(two, dict):
        return None if one == two else (place, one, two)
    for key in dict.fromkeys((*one, *two)):
        inner = f"{place}.{key}" if place else str(key)
        found = _difference(one.get(key), two.get(key), inner)
        if found is not None:
            return found
    return None


def _refuse_twins(models: Mapping[str, LoadedModel]) -> None:
    seen: dict[str, str] = {}
    for where, model in models.items():
        digest = model.spec.weights_sha256
        if digest and digest in seen:
            raise ModelError(
                f"{where}: has the same weights as {seen[digest]}.",
                hint=TWICE,
            )
        seen[digest] = where


def _agreed(choices: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    """Return the entries that all choices have in common."""
    first, *others = choices
    return tuple(one for one in first if all(one in other for other in others))


def _same(values: Sequence[str]) -> str | None:
    return values[0] if len(set(values)) == 1 else None


def _means(metrics: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each metric that every member has."""
    means: dict[str, float | None] = {}
    for key in metrics[0]:
        values = [v for found in metrics if (v := found.get(key)) is not None]
        if len(values) == len(metrics):
            means[key] = sum(values) / len(values)
    return means
