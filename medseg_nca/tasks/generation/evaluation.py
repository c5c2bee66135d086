"""Evaluate how well an automaton grows its targets, keeps them and mends them, without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from medseg_nca.config.loading import validate, with_overrides
from medseg_nca.errors import NonFiniteStateError
from medseg_nca.inference.task_model import TaskModel
from medseg_nca.job import Job
from medseg_nca.nca.fire import mix
from medseg_nca.tasks.base import EvaluateRequest, Evaluation
from medseg_nca.tasks.generation.damage import fixed_damage
from medseg_nca.tasks.generation.growth import Film, facts_of, grow, module_of, wanted_of, wound
from medseg_nca.tasks.generation.learner import psnr
from medseg_nca.tasks.generation.options import WOUNDS, EvaluationOptions, Wound
from medseg_nca.tracking.results import describe_results, write_results

Tree = dict[str, Any]
# A wound is healed when the loss is at most this many times the loss before the wound.
HEALED = 2.0
# A wound has this many times the trained steps to heal; then the loss after it is measured.
HEALING_TIME = 5
# A growth is damaged after this many times the trained steps, when it does not change any more.
_GROWN = 10


@dataclass(frozen=True)
class Wounded:
    """How a growth healed from one wound.

    Attributes:
        losses: the loss before the wound, after the wound, and after each step from then on.
        frames: pictures before the wound, after it, and after some of the steps.
        steps: for each picture, the number of steps since the wound; -1 for the first picture.
    """

    losses: tuple[float, ...]
    frames: tuple[np.ndarray[Any, Any], ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class GrownCase:
    """One target grown with one fire seed.

    Attributes:
        id: name of the target and fire seed, ``target/seed``.
        row: the entry of ``metrics.json``.
        losses: the loss before the first step, and after each step.
        frames: pictures of the growth.
        steps: for each picture, the number of steps after which it was taken.
        wounds: how the growth healed, by name of the wound.
    """

    id: str
    row: Tree
    losses: tuple[float, ...]
    frames: tuple[np.ndarray[Any, Any], ...]
    steps: tuple[int, ...]
    wounds: Mapping[str, Wounded]


def evaluation_options(overrides: Sequence[str]) -> EvaluationOptions:
    """Return the options of an evaluation from overrides, each as ``--set`` takes it.

    Raises:
        ConfigError: if an option is unknown or wrong; the message names it.
    """
    return validate(EvaluationOptions, with_overrides({}, overrides), source="--set")


def run(request: EvaluateRequest, model: TaskModel, job: Job) -> Evaluation:
    """Evaluate a model, and write the results.

    Raises:
        ConfigError: for an unknown option.
        Interrupted: if the job was cancelled.
        OutputError: if a file cannot be written.
    """
    from medseg_nca.tasks.generation.report import write_evaluation_report

    options = evaluation_options(request.overrides)
    names = facts_of(model).targets
    wishes = [(target, options.seed + k) for target in range(len(names))
              for k in range(options.count)]  # fmt: skip
    cases: list[GrownCase] = []
    failed: dict[str, str] = {}
    for number, (target, seed) in enumerate(wishes):
        job.report("evaluating", number, len(wishes), unit="cases")
        try:
            cases.append(measure(model, target, seed, options, job))
        except NonFiniteStateError as error:
            failed[f"{names[target]}/{seed}"] = error.message
    job.report("evaluating", len(wishes), len(wishes), unit="cases")
    tree = _tree(model, cases, failed, options)
    rows = [_flat(case.row) for case in cases]
    (request.out).mkdir(parents=True, exist_ok=True)
    write_evaluation_report(tree, cases, request.out, animation=options.animation)
    write_results(tree, rows, request.out)
    return Evaluation(request.out, tree, failed)


def measure(
    model: TaskModel, target: int, seed: int, options: EvaluationOptions, job: Job
) -> GrownCase:
    """Grow one target with one fire seed for the longest of the times, and damage it.

    Raises:
        NonFiniteStateError: if a state is not finite; the message names the step.
        Interrupted: if the job was cancelled.
    """
    module, wanted = module_of(model), wanted_of(model, target)
    trained, name = module.steps, facts_of(model).targets[target]
    ends = [time * trained for time in options.times]
    pictures = {*ends, *(round(trained * share) for share in (0.25, 0.5, 0.75))}
    film = Film(lambda step: step in pictures or (step <= trained), wanted)
    state = module.seed_state(module.genome(target)).to(model.device)
    film.add(0, module.visible(state))
    settled: Tensor | None = None
    done, taken = 0, 0
    for end in sorted({*ends, _GROWN * trained}):
        state, more = grow(model, state, end - done, mix(seed, 0), done, film, job)
        # The state of an automaton that stopped by itself does not change any more.
        film.losses += [film.losses[-1]] * (end + 1 - len(film.losses))
        taken += more
        done = end
        if end == _GROWN * trained:
            settled = state
    assert settled is not None
    losses, settled_loss = film.losses, film.losses[_GROWN * trained]
    constant = float(wanted.flatten(1).var(1, correction=0).mean())
    wounds: dict[str, Wounded] = {w: _hurt(model, settled, wanted, w, seed, job) for w in WOUNDS}
    row: Tree = {
        "id": f"{name}/{seed}",
        "target": name,
        "seed": seed,
        "steps": taken,
        "loss": {f"{t}x": losses[t * trained] for t in options.times},
        "psnr": {f"{t}x": psnr(losses[t * trained]) for t in options.times},
        "settled_psnr": psnr(settled_loss),
        "lowest_loss": min(losses),
        "constant_loss": constant,
        "persistence": settled_loss / max(losses[trained], 1e-12),
        "damage": {w: healing(wounded, constant) for w, wounded in wounds.items()},
    }
    return GrownCase(row["id"], row, tuple(losses), tuple(film.frames), tuple(film.numbers), wounds)


def _hurt(
    model: TaskModel, state: Tensor, wanted: Tensor, name: Wound, seed: int, job: Job
) -> Wounded:
    module = module_of(model)
    steps, first = HEALING_TIME * module.steps, _GROWN * module.steps
    before = module.visible(state)
    hurt = wound(model, state, fixed_damage(wanted[-1], name))
    moments = {first + n for n in (steps // 40, steps // 10, steps // 5, steps)}
    film = Film(lambda step: step in moments, wanted)
    film.add(-1, before)
    film.add(-1, module.visible(hurt))
    frames = [before[0].cpu().numpy(), module.visible(hurt)[0].cpu().numpy()]
    grow(model, hurt, steps, mix(seed, 1), first, film, job)
    film.losses += [film.losses[-1]] * (steps + 2 - len(film.losses))
    numbers = (-1, 0, *(n - first for n in film.numbers))
    return Wounded(tuple(film.losses), (*frames, *film.frames), numbers)


def healing(wounded: Wounded, constant: float) -> Tree:
    """Return the losses around a wound, and the step after which the wound is healed.

    A wound does not count as healed if nothing had grown before it (the picture was no better than
    a constant), or if it did no harm (the loss stayed within the limit).
    """
    before, hurt, *after = wounded.losses
    limit = HEALED * before
    healed = None
    if before < constant and hurt > limit:
        healed = next((step for step, loss in enumerate(after, 1) if loss <= limit), None)
    return {
        "loss_before": before,
        "loss_damaged": hurt,
        "loss_after": after[-1],
        "ratio": after[-1] / max(before, 1e-12),
        "psnr_after": psnr(after[-1]),
        "steps_to_heal": healed,
    }


def _tree(
    model: TaskModel,
    cases: Sequence[GrownCase],
    failed: Mapping[str, str],
    options: EvaluationOptions,
) -> Tree:
    module = module_of(model)
    rows = [case.row for case in cases]
    # The score is always taken after the same number of steps, so that scores can be compared.
    value = _mean([row["settled_psnr"] for row in rows])
    tree = describe_results(
        model, data="", data_hash="", split="all", cases=len(rows),
        score=f"PSNR after {_GROWN}x the trained steps (dB)", value=value, better="higher",
    )  # fmt: skip
    times = [f"{t}x" for t in options.times]
    return {
        **tree,
        "trained_steps": module.steps,
        "times": times,
        "loss": {t: _mean([row["loss"][t] for row in rows]) for t in times},
        "psnr": {t: _mean([row["psnr"][t] for row in rows]) for t in times},
        "persistence": _mean([row["persistence"] for row in rows]),
        "damage": {w: _summary([row["damage"][w] for row in rows]) for w in WOUNDS},
        "healing_time": HEALING_TIME * module.steps,
        "cases": rows,
        "failed": [{"id": name, "error": text} for name, text in failed.items()],
        "notes": _notes(rows, failed),
    }


def _notes(rows: Sequence[Tree], failed: Mapping[str, str]) -> list[str]:
    notes = [f"{name}: {text}" for name, text in failed.items()]
    for row in rows:
        if row["persistence"] > HEALED:
            notes.append(
                f"{row['id']}: is not kept: the loss grows {row['persistence']:.1f}-fold from the "
                "trained steps to ten times as many."
            )
        for name, entry in row["damage"].items():
            if entry["steps_to_heal"] is None:
                notes.append(f"{row['id']}: {name} {_why_unhealed(row, entry)}.")
    return notes


def _why_unhealed(row: Tree, entry: Tree) -> str:
    if entry["loss_before"] >= row["constant_loss"]:
        return "has nothing to mend: what was cut is no better than a constant answer"
    if entry["loss_damaged"] <= HEALED * entry["loss_before"]:
        return "did no harm that could be mended"
    return "is not mended within the steps looked at"


def _summary(entries: Sequence[Tree]) -> Tree:
    healed = [e["steps_to_heal"] for e in entries if e["steps_to_heal"] is not None]
    return {
        "loss_damaged": _mean([e["loss_damaged"] for e in entries]),
        "loss_after": _mean([e["loss_after"] for e in entries]),
        "ratio": _mean([e["ratio"] for e in entries]),
        "psnr_after": _mean([e["psnr_after"] for e in entries]),
        "healed": len(healed),
        "steps_to_heal": _mean(healed),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _flat(row: Tree) -> Tree:
    flat: Tree = {key: row[key] for key in ("id", "target", "seed", "steps", "persistence")}
    for group in ("loss", "psnr"):
        flat |= {f"{group}_{time}": value for time, value in row[group].items()}
    for name, entry in row["damage"].items():
        flat |= {f"{name}_{key}": value for key, value in entry.items()}
    return flat


def case_value(row: Tree, metric: str) -> float | None:
    """Return a metric of a case by its name in ``metrics.csv``; None if the case has none."""
    value = _flat(row).get(metric)
    return None if value is None else float(value)
